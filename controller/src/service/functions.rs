//! The control API of functions that are called by their names.

use std::sync::Arc;
use std::time::Duration;

use refunction_protocol::{FailureKind, host as api};
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::{Code, Request, Response, Status};

use super::{LogStream, image, json, lines, node, told};
use crate::containerd::images::{self, ImageError};
use crate::node::{Call, Node, Refusal};
use crate::registry::Registry;
use crate::store::{Change, Condition, Definition, Function, Put, StoreError};
use crate::traces;

/// Functions in one list, if nothing is said.
const PAGE: usize = 100;

/// How long containerd may take to say which images there are.
const PATIENCE: Duration = Duration::from_secs(2);

/// Answers the control socket's calls about functions.
#[derive(Debug)]
pub struct Functions {
    node: Arc<Node>,
    registry: Arc<Registry>,
    stopping: watch::Receiver<bool>,
}

impl Functions {
    /// Over this node, whose images this registry's containerd has.
    /// Calls that would go on for ever end when `stopping` is true.
    #[must_use]
    pub fn new(node: Arc<Node>, registry: Arc<Registry>, stopping: watch::Receiver<bool>) -> Self {
        Self {
            node,
            registry,
            stopping,
        }
    }

    /// Changes the store and tells the node, whoever hangs up meanwhile: a change that is
    /// stored and not told would be one that the next daemon's life brings.
    async fn change<T: Send + 'static>(
        &self,
        name: String,
        change: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, Status> {
        let node = Arc::clone(&self.node);
        let changed = async move {
            let changed = change.await?;
            node.changed(&name).await?;
            Ok::<_, StoreError>(changed)
        };
        tokio::spawn(changed)
            .await
            .map_err(|_| Status::internal("the change was abandoned"))?
            .map_err(|error| stored(&error))
    }
}

#[tonic::async_trait]
impl api::functions_server::Functions for Functions {
    async fn put_function(
        &self,
        request: Request<api::PutFunctionRequest>,
    ) -> Result<Response<api::PutFunctionReply>, Status> {
        use api::put_function_request::Condition as Asked;
        let request = request.into_inner();
        let condition = match request.condition {
            None => Condition::None,
            Some(Asked::Absent(true)) => Condition::Absent,
            Some(Asked::Absent(false)) => Condition::Present,
            Some(Asked::Revision(revision)) => Condition::Revision(revision),
        };
        let definition = Definition {
            image: request.image,
            binary: request.binary,
            main: request.main,
            handler: request.handler,
            env: request.env,
            deadline_ms: request.deadline_ms,
            memory_bytes: request.memory_bytes,
            max_concurrency: request.max_concurrency,
            keep_warm_s: request.keep_warm_s,
        };
        // A slip in the name would otherwise show at the first call. Nothing else is asked of
        // containerd here: while it does not answer, functions are stored all the same.
        let look = images::check(self.registry.containerd(), &definition.image);
        if let Ok(Err(error @ ImageError::Unknown { .. })) = timeout(PATIENCE, look).await {
            return Err(image(&error));
        }
        let (name, code) = (request.name, request.code);
        let taken = format!("there is a function {name:?} already");
        let store = self.node.store().clone();
        let Put { function, change } = self
            .change(name.clone(), async move {
                store.put(&name, definition, code, condition).await
            })
            .await
            .map_err(|status| {
                // What it has instead is nothing that was asked about.
                if condition == Condition::Absent && status.code() == Code::AlreadyExists {
                    return Status::already_exists(taken);
                }
                status
            })?;
        Ok(Response::new(api::PutFunctionReply {
            function: Some(shown(function)),
            change: match change {
                Change::Created => "created",
                Change::Updated => "updated",
                Change::Unchanged => "unchanged",
            }
            .into(),
        }))
    }

    async fn get_function(
        &self,
        request: Request<api::GetFunctionRequest>,
    ) -> Result<Response<api::GetFunctionReply>, Status> {
        let request = request.into_inner();
        let store = self.node.store();
        let function = store.get(&request.name).await.map_err(|it| stored(&it))?;
        let function = function.ok_or_else(|| unknown(&request.name))?;
        let code = if request.with_code {
            let code = store.code(function.code).await.map_err(|it| stored(&it))?;
            code.ok_or_else(|| {
                Status::failed_precondition(format!(
                    "the function {:?} was changed at this moment; try again",
                    request.name
                ))
            })?
        } else {
            Vec::new()
        };
        Ok(Response::new(api::GetFunctionReply {
            function: Some(shown(function)),
            code,
        }))
    }

    async fn list_functions(
        &self,
        request: Request<api::ListFunctionsRequest>,
    ) -> Result<Response<api::ListFunctionsReply>, Status> {
        let request = request.into_inner();
        let after = Some(request.after.as_str()).filter(|after| !after.is_empty());
        let limit = match usize::try_from(request.limit) {
            Ok(0) => PAGE,
            Ok(limit) => limit,
            Err(_) => usize::MAX,
        };
        let page = self.node.store().list(after, limit).await;
        let page = page.map_err(|error| stored(&error))?;
        Ok(Response::new(api::ListFunctionsReply {
            functions: page.functions.into_iter().map(shown).collect(),
            next: page.next.unwrap_or_default(),
        }))
    }

    async fn delete_function(
        &self,
        request: Request<api::DeleteFunctionRequest>,
    ) -> Result<Response<api::DeleteFunctionReply>, Status> {
        let request = request.into_inner();
        let condition = request
            .revision
            .map_or(Condition::None, Condition::Revision);
        let name = request.name.clone();
        let store = self.node.store().clone();
        let deleted = self
            .change(request.name.clone(), async move {
                store.delete(&name, condition).await
            })
            .await?;
        let function = deleted.ok_or_else(|| unknown(&request.name))?;
        Ok(Response::new(api::DeleteFunctionReply {
            function: Some(shown(function)),
        }))
    }

    async fn invoke(
        &self,
        request: Request<api::InvokeRequest>,
    ) -> Result<Response<api::InvokeReply>, Status> {
        use api::invoke_reply::Outcome;
        let parent = traces::parent(request.metadata().as_ref());
        let request = request.into_inner();
        let payload = json(request.json)?;
        // The function sees it as its request's id: unique over all calls.
        let id = uuid::Uuid::new_v4().to_string();
        let call = Call {
            function: request.function,
            id: id.clone(),
            payload,
            deadline_ms: request.deadline_ms,
            parent,
            pieces: None,
        };
        let reply = match self.node.invoke(call).await {
            Ok(answer) => api::InvokeReply {
                request_id: id,
                outcome: Some(match answer.outcome {
                    Ok(value) => Outcome::Json(value.get().to_owned()),
                    Err(failure) => Outcome::Failure(told(failure)),
                }),
                container: answer.asked.container,
                start: answer.asked.start.as_str().into(),
                waited_us: micros(answer.asked.waited),
                ran_us: micros(answer.ran),
            },
            // In its tenant's own lines, as where one container is asked to load it.
            Err(Refusal::NotLoaded { mut failure, .. }) => {
                // There is a function, other than where nobody sent one.
                if failure.kind == FailureKind::NotLoaded {
                    failure.kind = FailureKind::Exception;
                }
                api::InvokeReply {
                    request_id: id,
                    outcome: Some(Outcome::Failure(told(failure))),
                    ..api::InvokeReply::default()
                }
            }
            Err(other) => return Err(refused(&other)),
        };
        Ok(Response::new(reply))
    }

    type FunctionLogsStream = LogStream;

    async fn function_logs(
        &self,
        request: Request<api::FunctionLogsRequest>,
    ) -> Result<Response<Self::FunctionLogsStream>, Status> {
        let request = request.into_inner();
        let name = &request.function;
        let logs = self.node.logs(name).ok_or_else(|| unknown(name))?;
        let stopping = self.stopping.clone();
        Ok(Response::new(lines(logs, request.follow, stopping)))
    }

    async fn node(&self, _: Request<api::NodeRequest>) -> Result<Response<api::NodeReply>, Status> {
        Ok(Response::new(node::shown(self.node.view())))
    }
}

fn shown(function: Function) -> api::NamedFunction {
    let definition = function.definition;
    api::NamedFunction {
        name: function.name,
        image: definition.image,
        binary: definition.binary,
        main: definition.main,
        handler: definition.handler,
        env: definition.env,
        deadline_ms: definition.deadline_ms,
        memory_bytes: definition.memory_bytes,
        max_concurrency: definition.max_concurrency,
        keep_warm_s: definition.keep_warm_s,
        code_digest: function.code.to_string(),
        revision: function.revision,
        created_unix_ms: function.created_unix_ms,
        updated_unix_ms: function.updated_unix_ms,
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn unknown(name: &str) -> Status {
    Status::not_found(format!(
        "there is no function {name:?}; `funk functions` shows those that there are"
    ))
}

fn stored(error: &StoreError) -> Status {
    let message = error.to_string();
    match error {
        StoreError::Invalid(_) => Status::invalid_argument(message),
        StoreError::TooLarge { .. } => Status::out_of_range(message),
        StoreError::Conflict { found: None, .. } => Status::not_found(message),
        StoreError::Conflict { .. } => Status::already_exists(message),
        StoreError::NoSpace { .. } => Status::resource_exhausted(message),
        StoreError::Damaged { .. } => Status::data_loss(message),
        // Only while the daemon ends.
        StoreError::Closed => Status::unavailable(message),
        StoreError::InUse { .. }
        | StoreError::Newer { .. }
        | StoreError::Foreign { .. }
        | StoreError::File { .. }
        | StoreError::Sqlite { .. } => Status::internal(message),
    }
}

fn refused(refusal: &Refusal) -> Status {
    let message = refusal.to_string();
    match refusal {
        Refusal::Unknown(name) => unknown(name),
        Refusal::Busy { .. } => Status::resource_exhausted(message),
        // It is left alone because it crashed.
        Refusal::BackingOff { .. } => Status::aborted(message),
        Refusal::NotLoaded { .. } => Status::failed_precondition(message),
        Refusal::NoContainer { .. } => Status::failed_precondition(message),
        Refusal::Ending => Status::unavailable(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_the_code_that_says_what_to_do() {
        let retry_after = Duration::from_millis(5);
        let code = |refusal| refused(&refusal).code();
        assert_eq!(code(Refusal::Unknown("f".into())), Code::NotFound);
        let busy = Refusal::Busy {
            reason: "full".into(),
            retry_after,
        };
        assert!(refused(&busy).message().contains("5 ms"));
        assert_eq!(code(busy), Code::ResourceExhausted);
        let backing_off = Refusal::BackingOff {
            function: "f".into(),
            cause: "it crashed".into(),
            retry_after,
        };
        assert_eq!(code(backing_off), Code::Aborted);
        assert_eq!(code(Refusal::Ending), Code::Unavailable);
        let conflict = |found| StoreError::Conflict {
            name: "f".into(),
            found,
        };
        assert_eq!(stored(&conflict(None)).code(), Code::NotFound);
        assert_eq!(stored(&conflict(Some(1))).code(), Code::AlreadyExists);
        let large = StoreError::TooLarge { bytes: 1 };
        assert_eq!(stored(&large).code(), Code::OutOfRange);
    }
}
