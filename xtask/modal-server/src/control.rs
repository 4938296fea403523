//! The control plane: which part answers which call.

use crate::account;
use crate::cloud::{Cloud, lock};
use crate::error::Result;
use crate::image;
use crate::proto::client::generic_result::GenericStatus;
use crate::proto::client::modal_client_server::ModalClient;
use crate::proto::client::*;
use crate::sandbox::{Sandbox, ended};
use crate::sandboxes::{self, access, bounded, metadata, tunnels};
use crate::token::Audience;
use futures_util::stream::{self, BoxStream, StreamExt};
use std::sync::Arc;
use tonic::{Request, Response, Status};

pub(crate) struct Control(pub(crate) Arc<Cloud>);

impl Control {
    /// The sandbox that a call is about. Its own token need not be sent, but where it is it must be this one's.
    fn sandbox<T>(&self, request: &Request<T>, id: &str) -> Result<Arc<Sandbox>> {
        let sandbox = self.0.sandboxes.find(id)?;
        let token = request.metadata().get("x-modal-sandbox-token");
        if token.is_some_and(|token| token != sandbox.token.as_str()) {
            return Err(Status::unauthenticated("x-modal-sandbox-token is that of another sandbox"));
        }
        Ok(sandbox)
    }
}

type Answer<T> = std::result::Result<Response<T>, Status>;

fn answer<T>(result: Result<T>) -> Answer<T> {
    result.map(Response::new)
}

#[tonic::async_trait]
impl ModalClient for Control {
    async fn client_hello(&self, _: Request<()>) -> Answer<ClientHelloResponse> {
        let image_builder_version = self.0.settings.image_builder_version.clone();
        answer(Ok(ClientHelloResponse { image_builder_version, server_warnings: Vec::new() }))
    }

    async fn auth_token_get(&self, _: Request<AuthTokenGetRequest>) -> Answer<AuthTokenGetResponse> {
        answer(Ok(AuthTokenGetResponse {
            token: self.0.tokens.issue(Audience::Control, self.0.settings.auth_life),
        }))
    }

    async fn app_get_or_create(
        &self,
        request: Request<AppGetOrCreateRequest>,
    ) -> Answer<AppGetOrCreateResponse> {
        answer(self.0.account.app(request.into_inner()))
    }

    async fn environment_get_or_create(
        &self,
        request: Request<EnvironmentGetOrCreateRequest>,
    ) -> Answer<EnvironmentGetOrCreateResponse> {
        answer(Ok(account::environment(&self.0, request.get_ref())))
    }

    async fn secret_get_or_create(
        &self,
        request: Request<SecretGetOrCreateRequest>,
    ) -> Answer<SecretGetOrCreateResponse> {
        answer(self.0.account.secret(request.into_inner()))
    }

    async fn image_from_id(&self, request: Request<ImageFromIdRequest>) -> Answer<ImageFromIdResponse> {
        let image_id = request.into_inner().image_id;
        answer(self.0.images.ready(&image_id).map(|_| ImageFromIdResponse { image_id, metadata: None }))
    }

    async fn image_get_or_create(
        &self,
        request: Request<ImageGetOrCreateRequest>,
    ) -> Answer<ImageGetOrCreateResponse> {
        answer(image::get_or_create(&self.0, request.into_inner()))
    }

    async fn image_join_streaming(
        &self,
        request: Request<ImageJoinStreamingRequest>,
    ) -> Answer<BoxStream<'static, Result<ImageJoinStreamingResponse>>> {
        answer(image::join(&self.0, request.get_ref()))
    }

    async fn volume_get_or_create(
        &self,
        request: Request<VolumeGetOrCreateRequest>,
    ) -> Answer<VolumeGetOrCreateResponse> {
        answer(self.0.volumes.get_or_create(request.into_inner()))
    }

    async fn volume_delete(&self, request: Request<VolumeDeleteRequest>) -> Answer<()> {
        answer(self.0.volumes.delete(request.get_ref()))
    }

    async fn volume_put_files2(
        &self,
        request: Request<VolumePutFiles2Request>,
    ) -> Answer<VolumePutFiles2Response> {
        answer(self.0.volumes.put_files(&self.0, request.into_inner()))
    }

    async fn volume_get_file2(
        &self,
        request: Request<VolumeGetFile2Request>,
    ) -> Answer<VolumeGetFile2Response> {
        answer(self.0.volumes.get_file(&self.0, request.get_ref()))
    }

    async fn volume_list_files2(
        &self,
        request: Request<VolumeListFiles2Request>,
    ) -> Answer<BoxStream<'static, Result<VolumeListFiles2Response>>> {
        let batches = self.0.volumes.list(request.get_ref())?;
        answer(Ok(stream::iter(batches.into_iter().map(Ok)).boxed()))
    }

    async fn volume_remove_file2(&self, request: Request<VolumeRemoveFile2Request>) -> Answer<()> {
        answer(self.0.volumes.remove_file(request.get_ref()))
    }

    async fn sandbox_create_v2(
        &self,
        request: Request<SandboxCreateV2Request>,
    ) -> Answer<SandboxCreateV2Response> {
        let key =
            request.metadata().get("x-idempotency-key").and_then(|key| key.to_str().ok()).map(str::to_owned);
        let cloud = self.0.clone();
        // A client that hangs up has asked for the sandbox all the same, and will ask again by its key.
        let made =
            tokio::spawn(
                async move { sandboxes::create(&cloud, key.as_deref(), request.into_inner()).await },
            )
            .await;
        answer(made.unwrap_or_else(|error| Err(Status::internal(error.to_string()))))
    }

    async fn sandbox_get_command_router_access(
        &self,
        request: Request<SandboxGetCommandRouterAccessRequest>,
    ) -> Answer<SandboxGetCommandRouterAccessResponse> {
        use sandbox_get_command_router_access_request::Target;
        let sandbox = match request.get_ref().target.as_ref() {
            Some(Target::SandboxId(id)) => self.sandbox(&request, id)?,
            Some(Target::TaskId(task)) => self.0.sandboxes.find_task(task)?,
            None => return Err(Status::invalid_argument("name a sandbox or a task")),
        };
        if !sandbox.runs() {
            return Err(Status::failed_precondition(format!("sandbox {} has ended", sandbox.id)));
        }
        let CommandRouterAccess { jwt, url } = access(&self.0, &sandbox);
        let worker_ipv4_address = "127.0.0.1".into();
        answer(Ok(SandboxGetCommandRouterAccessResponse { jwt, url, worker_ipv4_address }))
    }

    async fn sandbox_get_from_name_v2(
        &self,
        request: Request<SandboxGetFromNameRequest>,
    ) -> Answer<SandboxGetFromNameResponse> {
        let request = request.get_ref();
        let app = self.0.account.find_app(&request.environment_name, &request.app_name);
        let found = app.and_then(|app| {
            self.0.sandboxes.find_name(&app, &request.sandbox_name, request.include_terminated)
        });
        let sandbox = found.ok_or_else(|| no_name(request))?;
        answer(Ok(SandboxGetFromNameResponse {
            sandbox_id: sandbox.id.clone(),
            metadata: Some(metadata(&sandbox)),
        }))
    }

    /// There is none of the first generation.
    async fn sandbox_get_from_name(
        &self,
        request: Request<SandboxGetFromNameRequest>,
    ) -> Answer<SandboxGetFromNameResponse> {
        Err(no_name(request.get_ref()))
    }

    async fn sandbox_get_task_id_v2(
        &self,
        request: Request<SandboxGetTaskIdRequest>,
    ) -> Answer<SandboxGetTaskIdResponse> {
        let sandbox = self.sandbox(&request, &request.get_ref().sandbox_id)?;
        answer(Ok(SandboxGetTaskIdResponse {
            task_id: Some(sandbox.task.clone()),
            task_result: sandbox.result(),
        }))
    }

    async fn sandbox_get_tunnels_v2(
        &self,
        request: Request<SandboxGetTunnelsRequest>,
    ) -> Answer<SandboxGetTunnelsResponse> {
        let sandbox = self.sandbox(&request, &request.get_ref().sandbox_id)?;
        answer(Ok(SandboxGetTunnelsResponse { result: None, tunnels: tunnels(&sandbox) }))
    }

    async fn sandbox_list_v2(&self, request: Request<SandboxListRequest>) -> Answer<SandboxListResponse> {
        answer(Ok(self.0.sandboxes.list(request.get_ref(), self.0.settings.page)))
    }

    async fn sandbox_tags_get_v2(
        &self,
        request: Request<SandboxTagsGetRequest>,
    ) -> Answer<SandboxTagsGetResponse> {
        let sandbox = self.sandbox(&request, &request.get_ref().sandbox_id)?;
        let tags = lock(&sandbox.tags).clone();
        answer(Ok(SandboxTagsGetResponse { tags }))
    }

    async fn sandbox_tags_set_v2(&self, request: Request<SandboxTagsSetRequest>) -> Answer<()> {
        let sandbox = self.sandbox(&request, &request.get_ref().sandbox_id)?;
        *lock(&sandbox.tags) = request.into_inner().tags;
        answer(Ok(()))
    }

    async fn sandbox_terminate_v2(
        &self,
        request: Request<SandboxTerminateRequest>,
    ) -> Answer<SandboxTerminateResponse> {
        let sandbox = self.sandbox(&request, &request.get_ref().sandbox_id)?;
        let existing_result = sandbox.result();
        sandbox.finish(&self.0, ended(GenericStatus::Terminated, 0));
        answer(Ok(SandboxTerminateResponse { existing_result }))
    }

    async fn sandbox_wait_v2(&self, request: Request<SandboxWaitRequest>) -> Answer<SandboxWaitResponse> {
        let sandbox = self.sandbox(&request, &request.get_ref().sandbox_id)?;
        let result = sandbox.wait(bounded(request.get_ref().timeout)).await;
        answer(Ok(SandboxWaitResponse { result, metadata: Some(metadata(&sandbox)) }))
    }
}

fn no_name(request: &SandboxGetFromNameRequest) -> Status {
    Status::not_found(format!("no sandbox named {} runs in app {}", request.sandbox_name, request.app_name))
}
