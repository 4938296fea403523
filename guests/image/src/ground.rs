//! What the set-up of an image runs on: the base, with a clone on it where a repository is named.

use crate::harvest::git::repositories;
use crate::harvest::sandbox::images;
use crate::harvest::sandbox::store::{self, Expectation};
use crate::{Error, Secret, clone, parts};

/// The store that remembers grounds, one file each with the id of the image.
const STORE: &str = "grounds";

/// An image, and what is to be known of it.
pub(crate) struct Ground {
    /// Its id.
    pub(crate) image: String,
    /// Where the clone is, if there is one.
    pub(crate) directory: Option<String>,
    /// Whether it was there already.
    pub(crate) cached: bool,
}

impl Ground {
    /// Finds the ground made of these parts, or makes it. `base` is the id of an image.
    pub(crate) fn of(
        base: &str,
        repo: Option<&str>,
        sha: Option<&str>,
        token: Option<&Secret>,
        fresh: bool,
    ) -> Result<Self, Error> {
        let Some(repo) = repo else {
            let file = parts::file(base, "", "");
            if !fresh {
                // One made fresh once stays the ground of later images; otherwise the base itself is.
                let image = remembered(&file)?.unwrap_or_else(|| base.to_owned());
                return Ok(Self { image, directory: None, cached: true });
            }
            let image = images::workbench(base)?.snapshot()?;
            remember(&file, &image)?;
            return Ok(Self { image, directory: None, cached: false });
        };
        let repository = repositories::open(repo, token)?;
        let directory = Some(clone::directory(&repository));
        // A branch moves; the commit that it is at now does not.
        let sha = match sha {
            Some(sha) if parts::is_commit(sha) => sha.to_owned(),
            reference => repository.resolve(reference)?.sha,
        };
        let file = parts::file(base, &repository.identity(), &sha);
        if let Some(image) = remembered(&file)?.filter(|_| !fresh) {
            return Ok(Self { image, directory, cached: true });
        }
        let image = clone::image(base, repo, &repository, &sha)?;
        remember(&file, &image)?;
        Ok(Self { image, directory, cached: false })
    }
}

/// The ground behind a file of the store, where its image still exists.
fn remembered(file: &str) -> Result<Option<String>, Error> {
    let Some(found) = store::get(STORE, file)? else { return Ok(None) };
    match String::from_utf8(found.content) {
        Ok(id) => images::lookup(&id),
        // Losing one costs the work of making it again, nothing else.
        Err(_) => Ok(None),
    }
}

fn remember(file: &str, image: &str) -> Result<(), Error> {
    store::put(STORE, file, image.as_bytes(), &Expectation::Anything).map(drop)
}
