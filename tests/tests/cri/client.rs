//! Speaking the CRI.

use std::collections::HashMap;
use std::path::Path;

use hyper_util::rt::TokioIo;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::{
    ContainerConfig, ContainerMetadata, CreateContainerRequest, ExecSyncRequest, ImageSpec,
    LinuxContainerConfig, LinuxPodSandboxConfig, ListPodSandboxRequest, PodSandboxConfig,
    PodSandboxMetadata, RemovePodSandboxRequest, RunPodSandboxRequest, StartContainerRequest,
    StopPodSandboxRequest,
};
use refunction_tests::cri::{Node, PYTHON};
use tokio::net::UnixStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// More than any answer has.
const LARGE: usize = 64 << 20;

/// A connection to one of a node's sockets.
#[derive(Clone)]
pub struct Cri {
    pub channel: Channel,
    pub runtime: RuntimeServiceClient<Channel>,
    pub images: ImageServiceClient<Channel>,
}

impl Cri {
    pub async fn direct(node: &Node) -> Self {
        Self::at(&node.containerd_socket()).await
    }

    pub async fn proxied(node: &Node) -> Self {
        Self::at(&node.cri_socket()).await
    }

    pub async fn at(socket: &Path) -> Self {
        let socket = socket.to_owned();
        let channel = Endpoint::from_static("http://localhost")
            .connect_with_connector(tower::service_fn(move |_| {
                let socket = socket.clone();
                async move { UnixStream::connect(socket).await.map(TokioIo::new) }
            }))
            .await
            .expect("somebody listens");
        Self {
            runtime: RuntimeServiceClient::new(channel.clone())
                .max_decoding_message_size(LARGE)
                .max_encoding_message_size(LARGE),
            images: ImageServiceClient::new(channel.clone()),
            channel,
        }
    }

    pub async fn run_pod(&mut self, config: &PodSandboxConfig) -> String {
        let request = RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: String::new(),
        };
        let answer = self.runtime.run_pod_sandbox(request).await;
        answer.expect("a pod").into_inner().pod_sandbox_id
    }

    pub async fn create(
        &mut self,
        pod: &str,
        config: &ContainerConfig,
        sandbox: &PodSandboxConfig,
    ) -> Result<String, Status> {
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.to_owned(),
            config: Some(config.clone()),
            sandbox_config: Some(sandbox.clone()),
        };
        let answer = self.runtime.create_container(request).await?;
        Ok(answer.into_inner().container_id)
    }

    pub async fn start(&mut self, container: &str) -> Result<(), Status> {
        let container_id = container.to_owned();
        let request = StartContainerRequest { container_id };
        self.runtime.start_container(request).await.map(drop)
    }

    pub async fn exec(&mut self, container: &str, command: &[&str]) -> String {
        let request = ExecSyncRequest {
            container_id: container.to_owned(),
            cmd: command.iter().map(ToString::to_string).collect(),
            timeout: 60,
        };
        let answer = self.runtime.exec_sync(request).await.expect("an answer");
        let answer = answer.into_inner();
        assert_eq!(answer.exit_code, 0, "{answer:?}");
        String::from_utf8_lossy(&answer.stdout).into_owned()
    }

    pub async fn remove_pod(&mut self, pod: &str) {
        let pod_sandbox_id = pod.to_owned();
        let request = StopPodSandboxRequest {
            pod_sandbox_id: pod_sandbox_id.clone(),
        };
        self.runtime
            .stop_pod_sandbox(request)
            .await
            .expect("stopped");
        let request = RemovePodSandboxRequest { pod_sandbox_id };
        self.runtime
            .remove_pod_sandbox(request)
            .await
            .expect("removed");
    }

    /// Removes all pods, as a node that is drained.
    pub async fn drain(&mut self) {
        let listed = self
            .runtime
            .list_pod_sandbox(ListPodSandboxRequest::default());
        for pod in listed.await.expect("a list").into_inner().items {
            self.remove_pod(&pod.id).await;
        }
    }
}

/// A pod of this name, annotated if a value is given.
pub fn pod(node: &Node, name: &str, annotation: Option<&str>) -> PodSandboxConfig {
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.to_owned(),
            uid: format!("{name}-uid"),
            namespace: "default".into(),
            attempt: 0,
        }),
        log_directory: node.scratch().join("logs").join(name).display().to_string(),
        annotations: annotation
            .map(|value| HashMap::from([("refunction".to_owned(), value.to_owned())]))
            .unwrap_or_default(),
        linux: Some(LinuxPodSandboxConfig::default()),
        ..PodSandboxConfig::default()
    }
}

/// A container of the image as it is.
pub fn function(name: &str) -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: name.to_owned(),
            attempt: 0,
        }),
        image: Some(ImageSpec {
            image: PYTHON.into(),
            ..ImageSpec::default()
        }),
        log_path: format!("{name}.log"),
        linux: Some(LinuxContainerConfig::default()),
        ..ContainerConfig::default()
    }
}

/// A container that runs a shell's script.
pub fn script(name: &str, script: &str) -> ContainerConfig {
    ContainerConfig {
        command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        ..function(name)
    }
}
