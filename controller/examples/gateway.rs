//! A gateway whose functions give back what they are called with, to try what speaks HTTP
//! without containers: `cargo run -p refunction-controller --example gateway -- 127.0.0.1:8080`.
//! What is deployed is kept in a directory that goes with the program.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use refunction_controller::gateway::{Bound, Gateway, Invoke, Place, Settings, Token};
use refunction_controller::node::{Answer, Asked, Call, Refusal, Start};
use refunction_controller::store::{Store, StoreError};
use tokio::sync::watch;

struct Echo(Store);

#[tonic::async_trait]
impl Invoke for Echo {
    async fn invoke(&self, call: Call) -> Result<Answer, Refusal> {
        let begun = Instant::now();
        let found = self.0.get(&call.function).await;
        let function = found.map_err(|error| Refusal::Busy {
            reason: error.to_string(),
            retry_after: Duration::from_secs(1),
        })?;
        let function = function.ok_or(Refusal::Unknown(call.function))?;
        Ok(Answer {
            outcome: Ok(call.payload),
            asked: Asked {
                container: function.definition.image,
                start: Start::Warm,
                waited: begun.elapsed(),
            },
            ran: Duration::ZERO,
        })
    }

    async fn changed(&self, _: &str) -> Result<(), StoreError> {
        Ok(())
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    fn metrics(&self) -> String {
        "# TYPE up gauge\nup 1\n".into()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let place: Place = arguments.next().ok_or("where to listen?")?.parse()?;
    let token = arguments
        .next()
        .map(|token| Token::new(&token))
        .transpose()?;
    let root = tempfile::tempdir()?;
    let store = Store::open(root.path()).await?;
    let settings = Settings {
        images: BTreeMap::from([("python".into(), "refunction/python".into())]),
        ..Settings::default()
    };
    let gateway = Gateway::new(store.clone(), Arc::new(Echo(store)), settings);
    let bound = Bound::listen(&place, token.as_ref()).await?;
    if let Some(place) = bound.place() {
        println!("{place}");
    }
    let (stop, stopping) = watch::channel(false);
    let serving = tokio::spawn(gateway.serve(vec![bound], stopping));
    tokio::signal::ctrl_c().await?;
    stop.send_replace(true);
    Ok(serving.await?)
}
