//! `harvest:sandbox/reveal`: the text of secrets, for components that were granted these secrets by name.

use super::bindings::harvest::sandbox::reveal::Host;
use super::handle::Failure;
use super::instance::State;
use crate::capability::CapabilityError;
use crate::capability::secret::RunSecret;
use crate::step::{ErrorKind, Permission};
use wasmtime::component::Resource;

impl Host for State {
    async fn text(&mut self, secret: Resource<RunSecret>) -> Result<String, Failure> {
        let secret = self.table.get(&secret)?;
        let granted = self.attempt.call.permissions.iter().any(|permission| match permission {
            Permission::Reveal(names) => names.iter().any(|name| name == secret.name()),
            _ => false,
        });
        match granted {
            true => Ok(secret.value()?.expose().to_owned()),
            false => {
                let name = secret.name();
                let message =
                    format!("secret {name} may not be read: write `permissions: [{{reveal: [{name}]}}]`");
                Err(CapabilityError::new(ErrorKind::DENIED, message).into())
            }
        }
    }
}
