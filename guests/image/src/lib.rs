//! The steps `image/build` and `image/tag`: images of repositories, warm to work in.
//!
//! An image is a ground (the base, with a clone on it where a repository is named) and the set-up run on that. The host
//! keeps what commands made, by content; which ground was made of what is remembered in a volume of this component.
#![allow(missing_docs, clippy::too_many_arguments)] // Of the bindings, and of steps as workflows see them.

wit_bindgen::generate!({
    path: ["../../wit/sandbox", "../../wit/git", "../../wit/run", "../../wit/streams", "wit"],
    world: "harvest:image-steps/image",
    generate_all,
});

mod clone;
mod ground;
mod parts;

use ground::Ground;
use harvest::sandbox::images::{self, Spec};
use harvest::streams::streams;

/// The image built upon unless another is named.
const BASE: &str = "host";
/// Longest set-up, in bytes: it is one argument of a shell.
const SETUP_LIMIT: usize = 64 << 10;

struct Steps;

impl Guest for Steps {
    fn build(
        token: Option<&Secret>,
        name: Option<String>,
        base: Option<String>,
        repo: Option<String>,
        sha: Option<String>,
        setup: Option<String>,
        fresh: Option<bool>,
    ) -> Result<Built, Error> {
        let setup = given(setup.as_ref()).filter(|text| !text.trim().is_empty());
        if setup.is_some_and(|text| text.len() > SETUP_LIMIT) {
            let message =
                format!("`setup` has at most {} KiB; keep a script in the image", SETUP_LIMIT >> 10);
            return Err(Error::TooLarge(message));
        }
        let base = known(given(base.as_ref()).unwrap_or(BASE))?;
        let (repo, sha) = (given(repo.as_ref()), given(sha.as_ref()));
        if repo.is_none() && sha.is_some() {
            return Err(Error::Invalid("`sha` says which commit of `repo`, which is missing".into()));
        }
        let ground = Ground::of(&base, repo, sha, token, fresh.unwrap_or(false))?;
        streams::progress("building the image");
        let commands = setup.map(|setup| parts::command(ground.directory.as_deref(), setup));
        let built = images::build(&Spec {
            base: ground.image,
            commands: commands.into_iter().collect(),
            env: Vec::new(),
        })?;
        if let Some(name) = given(name.as_ref()) {
            images::tag(&built.id, name)?;
        }
        Ok(Built { id: built.id, cached: ground.cached && built.cached })
    }

    fn tag(image: String, as_: String) -> Result<Tagged, Error> {
        let id = known(&image)?;
        images::tag(&id, &as_)?;
        Ok(Tagged { id })
    }
}

/// The id of an image that must be there.
fn known(image: &str) -> Result<String, Error> {
    images::lookup(image)?.ok_or_else(|| {
        Error::NotFound(format!(
            "there is no image `{image}`; build it with `harvest image build`, or use `host`"
        ))
    })
}

/// An input that has a default of no text is passed on as such where nobody gives it: it means the same as none.
fn given(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}

export!(Steps);
