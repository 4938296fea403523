//! `harvest:sandbox/images`: builds and names images, for components that were granted it.

use super::bindings::harvest::sandbox::images::{Host, Image, Spec};
use super::handle::{Failure, SandboxHandle};
use super::instance::State;
use crate::capability::sandbox::{ImageSpec, SandboxSpec};
use std::sync::Arc;
use wasmtime::component::Resource;

impl Host for State {
    async fn build(&mut self, spec: Spec) -> Result<Image, Failure> {
        let spec = ImageSpec {
            base: spec.base,
            commands: spec.commands,
            env: spec.env.into_iter().collect(),
            ..ImageSpec::default()
        };
        let output = self.attempt.output.clone();
        let log = Arc::new(move |line: &str| output.text("build", format!("{line}\n").as_bytes()));
        let (id, cached) = self.attempt.context.providers.sandboxes.build_image(&spec, None, log).await?;
        Ok(Image { id, cached })
    }

    async fn workbench(&mut self, image: String) -> Result<Resource<SandboxHandle>, Failure> {
        // No network, no volumes, no environment: nothing but files comes of it.
        self.create_sandbox(SandboxSpec { image, ..SandboxSpec::default() }).await
    }

    async fn lookup(&mut self, name: String) -> Result<Option<String>, Failure> {
        Ok(self.attempt.context.providers.sandboxes.find_image(&name).await?)
    }

    async fn tag(&mut self, image: String, name: String) -> Result<(), Failure> {
        Ok(self.attempt.context.providers.sandboxes.tag_image(&image, &name).await?)
    }
}
