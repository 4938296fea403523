//! The step `repos/list`: the repositories that the operator has registered, all or some.
#![allow(missing_docs)] // The bindings' own items have none.

wit_bindgen::generate!({
    path: ["../../wit/sandbox", "../../wit/repos", "wit"],
    world: "harvest:repos-steps/repos",
    generate_all,
});

use harvest::repos::registry;

/// Unknown names that an error spells out; the rest is counted.
const NAMED: usize = 10;

struct Steps;

impl Guest for Steps {
    fn list(only: Option<Vec<String>>) -> Result<Listed, Error> {
        let mut repos = registry::list()?;
        let Some(only) = only.filter(|only| !only.is_empty()) else { return Ok(Listed { repos }) };
        let is_known = |name: &&String| repos.iter().any(|repo| repo.full_name == **name);
        let unknown: Vec<&str> = only.iter().filter(|name| !is_known(name)).map(String::as_str).collect();
        if !unknown.is_empty() {
            let more = unknown.len().saturating_sub(NAMED);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            return Err(Error::NotFound(format!(
                "not registered: {}{more}; `harvest repo add OWNER/NAME` registers one",
                unknown[..unknown.len().min(NAMED)].join(", ")
            )));
        }
        repos.retain(|repo| only.contains(&repo.full_name));
        Ok(Listed { repos })
    }
}

export!(Steps);
