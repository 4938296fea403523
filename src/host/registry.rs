//! `harvest:repos/registry`: the operator's repositories, for components that were granted them.

use super::bindings::harvest::repos::registry::{Host, Repository};
use super::handle::Failure;
use super::instance::State;
use crate::capability::registry::Registered;

impl Host for State {
    async fn list(&mut self) -> Result<Vec<Repository>, Failure> {
        let all = self.attempt.context.providers.registry.list().await?;
        Ok(all
            .into_iter()
            .map(|Registered { full_name, url, branch, setup }| Repository { full_name, url, branch, setup })
            .collect())
    }
}
