//! `harvest:git`: repositories over the network, and signatures. Credentials go to the provider and never to the guest.

use super::bindings::harvest::git::repositories::{Answer, Delivery, Fetched, Host, HostRepository, Method};
use super::bindings::harvest::git::signing;
use super::handle::{Failure, RepositoryHandle, SandboxHandle};
use super::instance::State;
use crate::capability::secret::RunSecret;
use crate::capability::{CapabilityError, git};
use crate::step::ErrorKind;
use wasmtime::component::Resource;

impl Host for State {
    async fn open(
        &mut self,
        repo: String,
        credential: Option<Resource<RunSecret>>,
    ) -> Result<Resource<RepositoryHandle>, Failure> {
        let credential = match credential {
            Some(secret) => Some(self.table.get(&secret)?.value()?.clone()),
            None => None,
        };
        let Some(provider) = &self.attempt.context.providers.git else {
            return Err(
                CapabilityError::new(ErrorKind::UNAVAILABLE, "this host has no git: install it").into()
            );
        };
        let context = &self.attempt.context;
        let repository = provider.open_for(&context.run, &context.first, &repo, credential).await?;
        Ok(self.table.push(RepositoryHandle(repository))?)
    }
}

impl HostRepository for State {
    async fn name(&mut self, repository: Resource<RepositoryHandle>) -> wasmtime::Result<String> {
        Ok(self.table.get(&repository)?.0.name().to_owned())
    }

    async fn identity(&mut self, repository: Resource<RepositoryHandle>) -> wasmtime::Result<String> {
        Ok(self.table.get(&repository)?.0.identity().to_owned())
    }

    async fn resolve(
        &mut self,
        repository: Resource<RepositoryHandle>,
        reference: Option<String>,
    ) -> Result<Fetched, Failure> {
        let repository = &self.table.get(&repository)?.0;
        Ok(fetched(repository.resolve(reference.as_deref()).await?))
    }

    async fn fetch(
        &mut self,
        repository: Resource<RepositoryHandle>,
        reference: Option<String>,
        depth: Option<u32>,
    ) -> Result<Fetched, Failure> {
        let repository = &self.table.get(&repository)?.0;
        Ok(fetched(repository.fetch(reference.as_deref(), depth).await?))
    }

    async fn send(
        &mut self,
        repository: Resource<RepositoryHandle>,
        sandbox: Resource<SandboxHandle>,
        sha: String,
        path: String,
    ) -> Result<(), Failure> {
        let sandbox = self.table.get(&sandbox)?.open().await?;
        Ok(self.table.get(&repository)?.0.send(&*sandbox, &sha, &path).await?)
    }

    async fn receive(
        &mut self,
        repository: Resource<RepositoryHandle>,
        sandbox: Resource<SandboxHandle>,
        path: String,
    ) -> Result<String, Failure> {
        let sandbox = self.table.get(&sandbox)?.open().await?;
        Ok(self.table.get(&repository)?.0.receive(&*sandbox, &path).await?)
    }

    async fn push(
        &mut self,
        repository: Resource<RepositoryHandle>,
        sha: String,
        branch: String,
    ) -> Result<(), Failure> {
        Ok(self.table.get(&repository)?.0.push(&sha, &branch).await?)
    }

    async fn deliver(
        &mut self,
        repository: Resource<RepositoryHandle>,
        sha: String,
    ) -> Result<Delivery, Failure> {
        let git::Delivery { reference, fetch } = self.table.get(&repository)?.0.deliver(&sha).await?;
        Ok(Delivery { reference, fetch })
    }

    async fn api(
        &mut self,
        repository: Resource<RepositoryHandle>,
        method: Method,
        path: String,
        body: Option<Vec<u8>>,
    ) -> Result<Answer, Failure> {
        let body = body.map(|body| self.attempt.output.mask_bytes(&body).to_vec());
        let method = match method {
            Method::Get => git::Method::Get,
            Method::Post => git::Method::Post,
        };
        let git::Answer { status, body } = self.table.get(&repository)?.0.api(method, &path, body).await?;
        self.attempt.output.touch();
        Ok(Answer { status, body })
    }

    async fn drop(&mut self, repository: Resource<RepositoryHandle>) -> wasmtime::Result<()> {
        self.table.delete(repository)?;
        Ok(())
    }
}

impl signing::Host for State {
    async fn sign(&mut self, key: Resource<RunSecret>, payload: Vec<u8>) -> Result<String, Failure> {
        Ok(git::sign(self.table.get(&key)?.value()?, &payload)?)
    }
}

fn fetched(git::Fetched { sha, branch }: git::Fetched) -> Fetched {
    Fetched { sha, branch }
}
