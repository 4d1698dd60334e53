//! Workers beside one another.

use std::fs;
use std::path::Path;

use refunction_tests::meeting::{Meeting, PROGRAM};
use serde_json::json;

use crate::container::{Container, Limits, ORDINARY};

fn install(root: &Path) {
    fs::write(root.join("var/task/beside.py"), PROGRAM).expect("written");
}

#[test]
fn workers_beside_one_another_have_no_files_in_common_and_run_out_of_memory_alone() {
    let (container, port) = Container::serve(&Limits {
        command: &["--concurrency", "3", "beside.handler"],
        env: &["PORT=0"],
        prepare: install,
        ..ORDINARY
    });
    let meeting = Meeting::new();
    let mut calls = meeting.invite(port, &["a", "b", "c"]);
    let mut guests = meeting.meet_all(3);
    for guest in &mut guests {
        for place in ["/tmp", "/var/tmp", "/dev/shm"] {
            let made = guest.ask(&json!({"do": "make", "place": place}));
            let path = made[0].as_str().expect("a path");
            assert!(path.starts_with(place), "{path}");
            assert_eq!(made[1], "Permission denied", "{place}");
        }
    }
    let mut users = Vec::from_iter(guests.iter().map(|guest| guest.uid));
    users.sort_unstable();
    users.dedup();
    assert_eq!(users.len(), 3, "{users:?}");

    let mut hungry = guests.remove(0);
    hungry.tell(&json!({"do": "fill"}));
    let answer = calls.remove(&hungry.name).expect("it").answer();
    assert_eq!(
        answer.json()["error"]["kind"],
        "out_of_memory",
        "{answer:?}"
    );
    let found = guests[0].ask(&json!({"do": "look", "path": "/"}));
    assert!(found.is_u64(), "{found}; {}", container.errors());
    // In the place of the one that went.
    calls.append(&mut meeting.invite(port, &["d"]));
    guests.push(meeting.meet());
    for mut guest in guests {
        let name = json!(guest.name);
        guest.answer(&name);
        let answer = calls.get_mut(&guest.name).expect("it").answer();
        assert_eq!((answer.status, answer.json()), (200, name));
    }
}
