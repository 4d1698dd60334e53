//! A worker's life after its ready point: read a frame, do it, answer.

use std::io::{self, Read, Write};

use serde::Serialize;

use crate::channel::{Kind, MOST_PIECE_BYTES, read_frame, write_frame};
use crate::{Adapter, Answer, Head};

/// Serves requests until the stream ends.
///
/// # Errors
/// The channel broke, or what came over it was no frame of the supervisor's.
pub fn serve(
    adapter: &mut dyn Adapter,
    requests: &mut impl Read,
    responses: &mut impl Write,
) -> io::Result<()> {
    while let Some((kind, payload)) = read_frame(requests)? {
        match kind {
            Kind::Load => {
                let function = serde_json::from_slice(&payload)?;
                adapter.after_restore().map_err(io::Error::other)?;
                let loaded = adapter.load(&function).err();
                answer(responses, Kind::Loaded, &loaded)?;
            }
            Kind::Invoke => {
                let invocation = serde_json::from_slice(&payload)?;
                match adapter.answer(&invocation) {
                    Ok(Answer::Whole(value)) => {
                        write_frame(responses, Kind::Value, value.get().as_bytes())?;
                    }
                    Ok(Answer::Streamed(head)) => stream(adapter, &head, responses)?,
                    Err(exception) => answer(responses, Kind::Exception, &exception)?,
                }
            }
            Kind::Loaded
            | Kind::Value
            | Kind::Exception
            | Kind::Head
            | Kind::Piece
            | Kind::End
            | Kind::Ready => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the supervisor sent a worker's frame",
                ));
            }
        }
    }
    Ok(())
}

/// Hands an answer on as it comes. Where nobody takes it the pipe is full, and the function
/// waits.
fn stream(adapter: &mut dyn Adapter, head: &Head, responses: &mut impl Write) -> io::Result<()> {
    answer(responses, Kind::Head, head)?;
    loop {
        match adapter.next_piece() {
            Ok(Some(piece)) => {
                for part in piece.chunks(MOST_PIECE_BYTES) {
                    write_frame(responses, Kind::Piece, part)?;
                }
            }
            Ok(None) => return write_frame(responses, Kind::End, b""),
            Err(exception) => return answer(responses, Kind::Exception, &exception),
        }
    }
}

fn answer<T: Serialize>(responses: &mut impl Write, kind: Kind, value: &T) -> io::Result<()> {
    write_frame(responses, kind, &serde_json::to_vec(value)?)
}

#[cfg(test)]
mod tests {
    use refunction_protocol::Function;
    use serde_json::value::RawValue;

    use super::*;
    use crate::{BootError, Exception, Invocation, Runtime};

    /// Echoes, and notes what it was asked for.
    #[derive(Default)]
    struct Echo {
        pieces: Vec<Vec<u8>>,
        calls: Vec<&'static str>,
        code: String,
        refuses_restore: bool,
    }

    impl Adapter for Echo {
        fn runtime(&self) -> Runtime {
            Runtime {
                name: "echo".into(),
                version: "1".into(),
            }
        }

        fn boot(&mut self) -> Result<(), BootError> {
            Ok(())
        }

        fn preload(&mut self, _: &[String]) -> Result<(), BootError> {
            Ok(())
        }

        fn import(&mut self, _: &str) -> Result<(), Exception> {
            Ok(())
        }

        fn settle(&mut self) -> Result<(), BootError> {
            Ok(())
        }

        fn after_fork(&mut self) {}

        fn after_restore(&mut self) -> Result<(), BootError> {
            self.calls.push("after_restore");
            if self.refuses_restore {
                return Err(BootError {
                    doing: "reseeding".into(),
                    cause: "no entropy".into(),
                });
            }
            Ok(())
        }

        fn load(&mut self, function: &Function) -> Result<(), Exception> {
            self.calls.push("load");
            self.code.clone_from(&function.code);
            if function.code == "bad" {
                return Err(raised("bad code"));
            }
            Ok(())
        }

        fn invoke(&mut self, invocation: &Invocation) -> Result<Box<RawValue>, Exception> {
            self.calls.push("invoke");
            match invocation.data.get() {
                "null" => Err(raised("nothing given")),
                _ => Ok(invocation.data.clone()),
            }
        }

        /// Text comes letter by letter, the last first, and breaks where there is a `!`.
        fn answer(&mut self, invocation: &Invocation) -> Result<Answer, Exception> {
            match serde_json::from_str::<String>(invocation.data.get()) {
                Ok(text) => {
                    self.pieces = text.chars().map(|it| it.to_string().into()).collect();
                    Ok(Answer::Streamed(Head::of_type("text/plain")))
                }
                Err(_) => self.invoke(invocation).map(Answer::Whole),
            }
        }

        fn next_piece(&mut self) -> Result<Option<Vec<u8>>, Exception> {
            match self.pieces.pop() {
                Some(piece) if piece == b"!" => Err(raised("broken")),
                Some(piece) if piece == b"*" => Ok(Some(vec![b'*'; MOST_PIECE_BYTES + 1])),
                piece => Ok(piece),
            }
        }
    }

    fn raised(message: &str) -> Exception {
        Exception {
            error_type: "ValueError".into(),
            message: message.into(),
            stack: String::new(),
        }
    }

    /// What the adapter answers to these frames, and how serving ended.
    fn served(echo: &mut Echo, frames: &[(Kind, &str)]) -> (Vec<(Kind, String)>, io::Result<()>) {
        let mut requests = Vec::new();
        for (kind, payload) in frames {
            write_frame(&mut requests, *kind, payload.as_bytes()).expect("a vector takes all");
        }
        let mut responses = Vec::new();
        let ended = serve(echo, &mut requests.as_slice(), &mut responses);
        let mut responses = responses.as_slice();
        let mut answers = Vec::new();
        while let Some((kind, payload)) = read_frame(&mut responses).expect("a frame") {
            answers.push((kind, String::from_utf8(payload).expect("UTF-8")));
        }
        (answers, ended)
    }

    #[test]
    fn each_frame_is_answered_in_turn() {
        let mut echo = Echo::default();
        let (answers, ended) = served(
            &mut echo,
            &[
                (Kind::Load, r#"{"code":"good"}"#),
                (Kind::Invoke, r#"{"id":"1","data":{"a":  1}}"#),
                (
                    Kind::Invoke,
                    r#"{"id":"2","deadline_unix_ms":5,"data":null}"#,
                ),
                (Kind::Load, r#"{"code":"bad"}"#),
            ],
        );
        ended.expect("the stream ended between frames");
        let exception = |message: &str| {
            format!(r#"{{"error_type":"ValueError","message":"{message}","stack":""}}"#)
        };
        assert_eq!(
            answers,
            [
                (Kind::Loaded, "null".to_owned()),
                // A value is passed on as the runtime wrote it.
                (Kind::Value, r#"{"a":  1}"#.to_owned()),
                (Kind::Exception, exception("nothing given")),
                (Kind::Loaded, exception("bad code")),
            ]
        );
        assert_eq!(echo.code, "bad");
    }

    #[test]
    fn an_answer_in_pieces_has_a_head_and_an_end() {
        let mut echo = Echo::default();
        let (answers, ended) = served(
            &mut echo,
            &[
                (Kind::Invoke, r#"{"id":"1","data":"*ab"}"#),
                (Kind::Invoke, r#"{"id":"2","data":""}"#),
                (Kind::Invoke, r#"{"id":"3","data":"a!b"}"#),
                (Kind::Invoke, r#"{"id":"4","data":4}"#),
            ],
        );
        ended.expect("the stream ended between frames");
        let head = r#"{"status":200,"headers":[["content-type","text/plain"]]}"#;
        let broken = r#"{"error_type":"ValueError","message":"broken","stack":""}"#;
        let expected = [
            (Kind::Head, head.to_owned()),
            (Kind::Piece, "b".to_owned()),
            (Kind::Piece, "a".to_owned()),
            (Kind::Piece, "*".repeat(MOST_PIECE_BYTES)),
            (Kind::Piece, "*".to_owned()),
            (Kind::End, String::new()),
            (Kind::Head, head.to_owned()),
            (Kind::End, String::new()),
            (Kind::Head, head.to_owned()),
            (Kind::Piece, "b".to_owned()),
            (Kind::Exception, broken.to_owned()),
            (Kind::Value, "4".to_owned()),
        ];
        assert_eq!(answers, expected);
    }

    #[test]
    fn nothing_is_loaded_before_randomness_is_fresh() {
        let mut echo = Echo::default();
        let load = [(Kind::Load, r#"{"code":""}"#)];
        served(&mut echo, &load).1.expect("served");
        assert_eq!(echo.calls, ["after_restore", "load"]);
        let mut echo = Echo {
            refuses_restore: true,
            ..Echo::default()
        };
        let (answers, ended) = served(&mut echo, &load);
        assert_eq!(
            ended.expect_err("refused").to_string(),
            "reseeding: no entropy"
        );
        assert_eq!(
            (answers.len(), echo.calls.as_slice()),
            (0, &["after_restore"][..])
        );
    }

    #[test]
    fn what_the_supervisor_never_sends_ends_serving() {
        for frame in [
            (Kind::Value, "1"),
            (Kind::Loaded, "null"),
            (Kind::Exception, "{}"),
            (Kind::Invoke, "not JSON"),
            (Kind::Load, "[]"),
        ] {
            let mut echo = Echo::default();
            let (answers, ended) = served(&mut echo, &[frame, (Kind::Load, r#"{"code":""}"#)]);
            ended.expect_err("no frame of the supervisor's");
            assert_eq!((answers.len(), echo.calls.len()), (0, 0), "{frame:?}");
        }
    }
}
