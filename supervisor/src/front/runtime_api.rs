//! Lambda's runtime API, which gives one invocation after the other to whoever asks, and
//! takes what became of each:
//! <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>.

use std::io;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

const VERSION: &str = "/2018-06-01/runtime";

const REQUEST_ID: &str = "lambda-runtime-aws-request-id";
const INVOCATION_ID: &str = "lambda-runtime-invocation-id";
const ERROR_TYPE: &str = "lambda-runtime-function-error-type";

/// Pauses between attempts; there is one more of these.
const PAUSES: [Duration; 6] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1_600),
];

/// A connection that lasted this long was a good one, however it ended: something between
/// may close what is idle.
const LONG: Duration = Duration::from_secs(5);

/// Bytes of an answer that are worth showing.
const MOST_SAID: usize = 4096;

/// Why there is no more to be had from it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RuntimeApiError {
    #[error("Lambda's runtime API at {address} cannot be reached, tried {attempts} times: {cause}")]
    Unreachable {
        address: String,
        attempts: usize,
        cause: String,
    },
    #[error("Lambda's runtime API at {address} answered {doing} with {status}: {said}")]
    Refused {
        address: String,
        doing: &'static str,
        status: StatusCode,
        said: String,
    },
    #[error("Lambda's runtime API at {address} gave an invocation without a usable id: {id:?}")]
    Nameless { address: String, id: String },
}

/// What an invocation's answer is told by.
#[derive(Debug)]
pub(super) struct Ticket {
    /// The request's id.
    pub(super) id: String,
    /// What the service wants back, if it gave one: two invocations may have one id.
    invocation: Option<HeaderValue>,
}

/// What became of an answer that was posted.
#[derive(Debug)]
pub(super) enum Posted {
    Taken,
    /// Whoever asked does not wait any more, or the service sees it so.
    NotTaken(StatusCode, String),
}

/// The API at one address.
pub(super) struct RuntimeApi {
    address: String,
    user_agent: String,
    /// How long an answer that is posted may take to be taken.
    patience: Duration,
    /// The connection of the last request, which may serve for the next.
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl RuntimeApi {
    pub(super) fn new(address: &str, runtime: &str, patience: Duration) -> Self {
        Self {
            address: address.into(),
            user_agent: format!("refunction/{} ({runtime})", env!("CARGO_PKG_VERSION")),
            patience,
            sender: None,
        }
    }

    /// Waits for the next invocation, however long that takes.
    pub(super) async fn next(&mut self) -> Result<Response<Incoming>, RuntimeApiError> {
        let path = format!("{VERSION}/invocation/next");
        let response = self
            .ask(Method::GET, &path, Bytes::new(), HeaderMap::new())
            .await?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        Err(self
            .refused("the request for the next invocation", response)
            .await)
    }

    /// What an invocation's answer is told by.
    pub(super) fn ticket(&self, headers: &HeaderMap) -> Result<Ticket, RuntimeApiError> {
        let id = headers.get(REQUEST_ID);
        let id = String::from_utf8_lossy(id.map_or(b"", HeaderValue::as_bytes));
        // It becomes a part of a path.
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        if id.is_empty() || !id.bytes().all(is_part) {
            return Err(RuntimeApiError::Nameless {
                address: self.address.clone(),
                id: id.into_owned(),
            });
        }
        Ok(Ticket {
            id: id.into_owned(),
            invocation: headers.get(INVOCATION_ID).cloned(),
        })
    }

    /// Gives an invocation's result.
    pub(super) async fn respond(
        &mut self,
        ticket: &Ticket,
        result: String,
    ) -> Result<Posted, RuntimeApiError> {
        let path = format!("{VERSION}/invocation/{}/response", ticket.id);
        self.post(&path, result.into(), ticket.headers()).await
    }

    /// Tells why there is no result.
    pub(super) async fn fail(
        &mut self,
        ticket: &Ticket,
        error: &Value,
    ) -> Result<Posted, RuntimeApiError> {
        let path = format!("{VERSION}/invocation/{}/error", ticket.id);
        let mut headers = ticket.headers();
        headers.extend(kind_of(error));
        self.post(&path, error.to_string().into(), headers).await
    }

    /// Tells why there will be no results at all.
    pub(super) async fn fail_init(&mut self, error: &Value) -> Result<Posted, RuntimeApiError> {
        let path = format!("{VERSION}/init/error");
        let headers = kind_of(error).into_iter().collect();
        self.post(&path, error.to_string().into(), headers).await
    }

    /// What a connection carried is not all read: it is of no further use.
    pub(super) fn hang_up(&mut self) {
        self.sender = None;
    }

    async fn post(
        &mut self,
        path: &str,
        body: Bytes,
        mut headers: HeaderMap,
    ) -> Result<Posted, RuntimeApiError> {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let response = self.ask(Method::POST, path, body, headers).await?;
        let status = response.status();
        if status.is_success() {
            // To the end: the connection serves for the next.
            self.read(response).await;
            return Ok(Posted::Taken);
        }
        // "Non-recoverable state. Runtime should exit promptly."
        if status.is_server_error() {
            return Err(self.refused("an answer", response).await);
        }
        Ok(Posted::NotTaken(status, self.read(response).await))
    }

    /// The answer to a request, which is made again as long as it fails for want of a
    /// connection, and not too often.
    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
        mut headers: HeaderMap,
    ) -> Result<Response<Incoming>, RuntimeApiError> {
        for (name, value) in [(HOST, &self.address), (USER_AGENT, &self.user_agent)] {
            // One that cannot be a header is not there; an address that cannot be is no address.
            headers.extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
        }
        let mut pauses = PAUSES.iter();
        let mut attempts = 0;
        loop {
            let began = Instant::now();
            let is_kept = self.sender.is_some();
            let cause = match self
                .attempt(&method, path, body.clone(), headers.clone())
                .await
            {
                // Something between is not ready, or has nobody behind it yet.
                Ok(response) if is_passing(response.status()) => {
                    let status = response.status();
                    format!("{status}: {}", self.read(response).await)
                }
                Ok(response) => return Ok(response),
                Err(cause) => cause,
            };
            self.hang_up();
            // The server may close a connection while it is not used.
            if is_kept {
                continue;
            }
            attempts += 1;
            if began.elapsed() >= LONG && method == Method::GET {
                pauses = PAUSES.iter();
                attempts = 0;
            }
            match pauses.next() {
                Some(pause) => sleep(*pause).await,
                None => {
                    return Err(RuntimeApiError::Unreachable {
                        address: self.address.clone(),
                        attempts,
                        cause,
                    });
                }
            }
        }
    }

    async fn attempt(
        &mut self,
        method: &Method,
        path: &str,
        body: Bytes,
        headers: HeaderMap,
    ) -> Result<Response<Incoming>, String> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method.clone();
        *request.headers_mut() = headers;
        *request.uri_mut() = path.parse().map_err(|_| format!("{path} is no path"))?;
        let sender = match &mut self.sender {
            Some(sender) => sender,
            none => none.insert(connect(&self.address).await.map_err(|it| it.to_string())?),
        };
        let answer = async {
            sender.ready().await?;
            sender.send_request(request).await
        };
        let answered = match *method {
            // It comes when there is something to do.
            Method::GET => Ok(answer.await),
            _ => timeout(self.patience, answer).await,
        };
        let late = |_| format!("no answer within {} ms", self.patience.as_millis());
        answered.map_err(late)?.map_err(|error| in_words(&error))
    }

    async fn refused(
        &mut self,
        doing: &'static str,
        response: Response<Incoming>,
    ) -> RuntimeApiError {
        RuntimeApiError::Refused {
            address: self.address.clone(),
            doing,
            status: response.status(),
            said: self.read(response).await,
        }
    }

    /// A short answer, as text.
    async fn read(&mut self, response: Response<Incoming>) -> String {
        let body = Limited::new(response.into_body(), MOST_SAID).collect();
        match timeout(self.patience, body).await {
            Ok(Ok(body)) => String::from_utf8_lossy(&body.to_bytes()).trim().into(),
            _ => {
                self.hang_up();
                String::new()
            }
        }
    }
}

impl Ticket {
    fn headers(&self) -> HeaderMap {
        let name = HeaderName::from_static(INVOCATION_ID);
        let invocation = self.invocation.clone().map(|value| (name, value));
        invocation.into_iter().collect()
    }
}

/// What went wrong, for whoever counts it.
fn kind_of(error: &Value) -> Option<(HeaderName, HeaderValue)> {
    let kind = HeaderValue::from_str(error["errorType"].as_str()?).ok()?;
    Some((HeaderName::from_static(ERROR_TYPE), kind))
}

fn is_passing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}

async fn connect(address: &str) -> io::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    // It ends with its sender, or with the other side.
    tokio::task::spawn_local(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

/// An error with what led to it.
fn in_words(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
