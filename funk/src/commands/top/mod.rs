//! The node as it stands, again each second.

mod counts;
mod picture;
mod screen;

use std::collections::VecDeque;
use std::time::Duration;

use refunction_protocol::host as api;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::Show;
use super::interruption::Interruption;
use crate::cli::Format;
use crate::client::Functions;
use crate::error::{Error, Exit};
use picture::Picture;
use screen::Screen;

/// How often it is looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// Over how many of those rates and latencies are: fewer calls than a few say nothing.
const WINDOW: usize = 10;

pub(super) async fn top(show: Show, client: &mut Functions, once: bool) -> Result<Exit, Error> {
    let screen = Screen::of_terminal().filter(|_| !once && show.format == Format::Text);
    let Some(screen) = screen else {
        let view = look(client).await?;
        let picture = Picture::new(&view, None);
        show.result(|| picture.document(), |out| picture.write(out))?;
        return Ok(Exit::Ok);
    };
    let mut interruption = Interruption::new()?;
    // Before the screen is taken: what is wrong at once is told as everywhere.
    let first = look(client).await?;
    let screen = screen.take()?;
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::select! {
        failed = live(client, &screen, &mut ticks, first) => failed,
        () = interruption.comes() => Ok(Exit::Ok),
    }
}

async fn live(
    client: &mut Functions,
    screen: &Screen,
    ticks: &mut Interval,
    first: api::NodeReply,
) -> Result<Exit, Error> {
    let mut views = VecDeque::from([first]);
    ticks.tick().await;
    loop {
        if let Some(last) = views.back() {
            let before = views.front().filter(|_| views.len() > 1);
            screen.show(&Picture::new(last, before))?;
        }
        ticks.tick().await;
        views.push_back(look(client).await?);
        if views.len() > WINDOW + 1 {
            views.pop_front();
        }
    }
}

async fn look(client: &mut Functions) -> Result<api::NodeReply, Error> {
    Ok(client.node(api::NodeRequest {}).await?.into_inner())
}
