//! Which answer belongs to which request, and where it is sent.

use super::messages::client as api;
use super::messages::task_command_router as router;
use prost::Message;

/// A request, with what is answered to it.
pub(crate) trait Call: Message + Clone + Default + 'static {
    /// `/PACKAGE.SERVICE/NAME`.
    const PATH: &'static str;
    /// Whether the short-lived token goes with it, as it does with all calls about sandboxes.
    const TOKEN: bool = false;
    /// What is answered.
    type Answer: Message + Default + 'static;
}

/// A request that is answered by many messages.
pub(crate) trait Streamed: Message + Clone + Default + 'static {
    /// `/PACKAGE.SERVICE/NAME`.
    const PATH: &'static str;
    /// What is answered, any number of times.
    type Answer: Message + Default + 'static;
}

macro_rules! control {
    ($($name:literal $request:ty => $answer:ty $(, $token:ident)?;)+) => {
        $(
            impl Call for $request {
                const PATH: &'static str = concat!("/modal.client.ModalClient/", $name);
                $(const $token: bool = true;)?
                type Answer = $answer;
            }
        )+
    };
}

macro_rules! routed {
    ($trait:ident: $($name:literal $request:ty => $answer:ty;)+) => {
        $(
            impl $trait for $request {
                const PATH: &'static str =
                    concat!("/modal.task_command_router.TaskCommandRouter/", $name);
                type Answer = $answer;
            }
        )+
    };
}

control! {
    "ClientHello" () => api::ClientHelloResponse;
    "AuthTokenGet" api::AuthTokenGetRequest => api::AuthTokenGetResponse;
    "AppGetOrCreate" api::AppGetOrCreateRequest => api::AppGetOrCreateResponse;
    "EnvironmentGetOrCreate" api::EnvironmentGetOrCreateRequest => api::EnvironmentGetOrCreateResponse;
    "ImageFromId" api::ImageFromIdRequest => api::ImageFromIdResponse;
    "ImageGetOrCreate" api::ImageGetOrCreateRequest => api::ImageGetOrCreateResponse;
    "SecretGetOrCreate" api::SecretGetOrCreateRequest => api::SecretGetOrCreateResponse;
    "VolumeDelete" api::VolumeDeleteRequest => ();
    "VolumeGetFile2" api::VolumeGetFile2Request => api::VolumeGetFile2Response;
    "VolumeGetOrCreate" api::VolumeGetOrCreateRequest => api::VolumeGetOrCreateResponse;
    "VolumePutFiles2" api::VolumePutFiles2Request => api::VolumePutFiles2Response;
    "VolumeRemoveFile2" api::VolumeRemoveFile2Request => ();
    "SandboxCreateV2" api::SandboxCreateV2Request => api::SandboxCreateV2Response, TOKEN;
    "SandboxGetCommandRouterAccess" api::SandboxGetCommandRouterAccessRequest
        => api::SandboxGetCommandRouterAccessResponse, TOKEN;
    "SandboxGetFromNameV2" api::SandboxGetFromNameRequest => api::SandboxGetFromNameResponse, TOKEN;
    "SandboxGetTaskIdV2" api::SandboxGetTaskIdRequest => api::SandboxGetTaskIdResponse, TOKEN;
    "SandboxListV2" api::SandboxListRequest => api::SandboxListResponse, TOKEN;
    "SandboxTagsGetV2" api::SandboxTagsGetRequest => api::SandboxTagsGetResponse, TOKEN;
    "SandboxTerminateV2" api::SandboxTerminateRequest => api::SandboxTerminateResponse, TOKEN;
    "SandboxWaitV2" api::SandboxWaitRequest => api::SandboxWaitResponse, TOKEN;
}

routed! { Call:
    "TaskExecStart" router::TaskExecStartRequest => router::TaskExecStartResponse;
    "TaskExecStdinWrite" router::TaskExecStdinWriteRequest => router::TaskExecStdinWriteResponse;
    "TaskExecWait" router::TaskExecWaitRequest => router::TaskExecWaitResponse;
    "TaskSnapshotFilesystem" router::TaskSnapshotFilesystemRequest => router::TaskSnapshotFilesystemResponse;
    "TaskReloadVolumes" router::TaskReloadVolumesRequest => router::TaskReloadVolumesResponse;
    "TaskSetNetworkAccess" router::TaskSetNetworkAccessRequest => router::TaskSetNetworkAccessResponse;
}

routed! { Streamed:
    "TaskExecStdioRead" router::TaskExecStdioReadRequest => router::TaskExecStdioReadResponse;
}

impl Streamed for api::ImageJoinStreamingRequest {
    const PATH: &'static str = "/modal.client.ModalClient/ImageJoinStreaming";
    type Answer = api::ImageJoinStreamingResponse;
}

impl Streamed for api::VolumeListFiles2Request {
    const PATH: &'static str = "/modal.client.ModalClient/VolumeListFiles2";
    type Answer = api::VolumeListFiles2Response;
}
