//! `harvest:sandbox/volumes`: every volume of the home, for components that were granted it.

use super::bindings::harvest::sandbox::volumes::Host;
use super::handle::Failure;
use super::instance::State;
use super::store::FILE_LIMIT;
use crate::capability::volume::VolumeStore;
use std::sync::Arc;

impl Host for State {
    async fn names(&mut self) -> Result<Vec<String>, Failure> {
        Ok(self.all_volumes().list().await?)
    }

    async fn get(&mut self, volume: String, path: String) -> Result<Option<Vec<u8>>, Failure> {
        let found = self.all_volumes().get(&volume, &path, FILE_LIMIT).await?;
        Ok(found.map(|file| file.content.into()))
    }

    async fn put(&mut self, volume: String, path: String, content: Vec<u8>) -> Result<(), Failure> {
        let content = self.attempt.output.mask_bytes(&content);
        self.all_volumes().put(&volume, &path, &content, None).await?;
        Ok(())
    }

    async fn remove(&mut self, volume: String, path: String) -> Result<(), Failure> {
        Ok(self.all_volumes().remove(&volume, &path).await?)
    }
}

impl State {
    pub(super) fn all_volumes(&self) -> Arc<dyn VolumeStore> {
        self.attempt.context.providers.sandboxes.volumes()
    }
}
