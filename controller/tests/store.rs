//! The store of refunctiond: what is put into it, what of it comes back, and what it refuses.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use refunction_controller::store::{Change, Condition, Definition, Digest, Put, Store, StoreError};
use rusqlite::Connection;
use serde_json::json;
use tempfile::TempDir;

const CODE: &[u8] = b"def main(args):\n    return args\n";

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

fn database(root: &Path) -> PathBuf {
    root.join("refunction.db")
}

fn python() -> Definition {
    Definition {
        image: "refunction/python".into(),
        ..Definition::default()
    }
}

async fn open(root: &Path) -> Store {
    Store::open(root).await.expect("a store")
}

async fn put(store: &Store, name: &str, code: &[u8]) -> Put {
    store
        .put(name, python(), code.to_vec(), Condition::None)
        .await
        .expect("it is stored")
}

/// Looks into a store that is closed with other eyes.
fn look<T: rusqlite::types::FromSql>(root: &Path, sql: &str) -> T {
    let connection = Connection::open(database(root)).expect("a database");
    connection
        .query_row(sql, [], |row| row.get(0))
        .expect("a value")
}

#[tokio::test]
async fn what_is_put_is_there_after_the_next_start() {
    let root = directory();
    let everything = Definition {
        image: "refunction/python".into(),
        binary: true,
        main: Some("main".into()),
        handler: Some("app.handler".into()),
        env: [("A".into(), "ä\"\n".into()), ("B".into(), String::new())].into(),
        deadline_ms: Some(1),
        memory_bytes: Some(1 << 50),
        max_concurrency: Some(u32::MAX),
        keep_warm_s: Some(0),
    };
    let archive = [0, 159, 146, 150];
    let store = open(root.path()).await;
    let stored = store
        .put("all", everything.clone(), archive.into(), Condition::None)
        .await
        .unwrap();
    assert_eq!(stored.change, Change::Created);
    assert_eq!(stored.function.definition, everything);
    assert_eq!(stored.function.code, Digest::of(&archive));
    store
        .put_setting("pool", &json!({"most": 4}))
        .await
        .unwrap();
    store.close().await;
    assert!(matches!(store.get("all").await, Err(StoreError::Closed)));

    let store = open(root.path()).await;
    let function = store.get("all").await.unwrap().unwrap();
    assert_eq!(function, stored.function);
    let code = store.code(function.code).await.unwrap();
    assert_eq!(code.as_deref(), Some(&archive[..]));
    assert_eq!(
        store.setting("pool").await.unwrap(),
        Some(json!({"most": 4}))
    );
    assert_eq!(store.setting::<u32>("none").await.unwrap(), None);
    assert_eq!(store.get("none").await.unwrap(), None);
}

#[tokio::test]
async fn a_revision_is_never_used_twice() {
    let root = directory();
    let store = open(root.path()).await;
    let first = put(&store, "f", CODE).await.function;
    let same = put(&store, "f", CODE).await;
    assert_eq!((same.change, &same.function), (Change::Unchanged, &first));
    let second = put(&store, "f", b"other").await;
    assert_eq!(second.change, Change::Updated);
    assert!(second.function.revision > first.revision);
    assert_eq!(second.function.created_unix_ms, first.created_unix_ms);
    let mut changed = python();
    changed.env.insert("A".into(), "1".into());
    let third = store.put("f", changed, b"other".to_vec(), Condition::None);
    let third = third.await.unwrap().function;
    assert!(third.revision > second.function.revision);
    let gone = store.delete("f", Condition::None).await.unwrap();
    assert_eq!(gone.as_ref(), Some(&third));
    assert_eq!(store.delete("f", Condition::None).await.unwrap(), None);
    // It is another function, for whoever had the deleted one.
    let again = put(&store, "f", CODE).await;
    assert_eq!(again.change, Change::Created);
    assert!(again.function.revision > third.revision);
}

#[tokio::test]
async fn a_change_can_depend_on_what_is_there() {
    let root = directory();
    let store = open(root.path()).await;
    let change = async |code: &[u8], condition| {
        let put = store.put("f", python(), code.to_vec(), condition).await;
        put.map(|put| put.function.revision)
    };
    let conflict = |result: Result<u64, StoreError>| match result {
        Err(StoreError::Conflict { found, .. }) => found,
        other => panic!("{other:?}"),
    };
    assert_eq!(conflict(change(CODE, Condition::Revision(1)).await), None);
    assert_eq!(conflict(change(CODE, Condition::Present).await), None);
    let first = change(CODE, Condition::Absent).await.unwrap();
    assert_eq!(conflict(change(b"2", Condition::Absent).await), Some(first));
    let second = change(b"2", Condition::Revision(first)).await.unwrap();
    assert_eq!(
        conflict(change(b"3", Condition::Revision(first)).await),
        Some(second)
    );
    assert_eq!(store.code(Digest::of(b"3")).await.unwrap(), None);
    let delete = store.delete("f", Condition::Revision(first)).await;
    assert_eq!(conflict(delete.map(|_| 0)), Some(second));
    let delete = store.delete("f", Condition::Revision(second)).await;
    assert!(delete.unwrap().is_some());
}

#[tokio::test]
async fn functions_are_listed_page_by_page() {
    let root = directory();
    let store = open(root.path()).await;
    for name in ["b", "B", "a.1", "a-1", "a", "z"] {
        put(&store, name, CODE).await;
    }
    let mut names = Vec::new();
    let mut after = None;
    loop {
        let page = store.list(after.as_deref(), 2).await.unwrap();
        assert!((1..=2).contains(&page.functions.len()));
        names.extend(page.functions.into_iter().map(|it| it.name));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(names, ["B", "a", "a-1", "a.1", "b", "z"]);
    assert_eq!(store.list(Some("z"), 2).await.unwrap().functions, []);
}

#[tokio::test]
async fn code_is_kept_once_and_as_long_as_a_function_has_it() {
    let root = directory();
    let store = open(root.path()).await;
    put(&store, "a", CODE).await;
    put(&store, "b", CODE).await;
    let digest = Digest::of(CODE);
    put(&store, "a", b"other").await;
    assert!(store.code(digest).await.unwrap().is_some());
    store.delete("b", Condition::None).await.unwrap();
    assert_eq!(store.code(digest).await.unwrap(), None);
    store.close().await;
    assert_eq!(look::<i64>(root.path(), "SELECT count(*) FROM code"), 1);
}

#[tokio::test]
async fn one_daemon_has_it_at_a_time() {
    let root = directory();
    let store = open(root.path()).await;
    match Store::open(root.path()).await {
        Err(error @ StoreError::InUse { .. }) => {
            assert!(error.to_string().contains("another refunctiond"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    put(&store, "f", CODE).await;
    store.close().await;
    assert!(open(root.path()).await.get("f").await.unwrap().is_some());
}

#[tokio::test]
async fn secrets_are_its_owners_only() {
    let root = directory();
    let below = root.path().join("made/by/it");
    let store = open(&below).await;
    put(&store, "f", CODE).await;
    assert_eq!(fs::metadata(&below).unwrap().mode() & 0o777, 0o700);
    let mut files = 0;
    for file in fs::read_dir(&below).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file:?}");
        files += 1;
    }
    assert_eq!(files, 2, "the database and its log");
}

/// Opens what is not to be opened, and sees that it stays as it is.
async fn refused(root: &Path) -> StoreError {
    let before = fs::read(database(root)).unwrap();
    let error = Store::open(root).await.expect_err("it was opened");
    assert!(
        error
            .to_string()
            .contains(&database(root).display().to_string()),
        "{error}"
    );
    assert_eq!(fs::read(database(root)).unwrap(), before, "{error}");
    error
}

#[tokio::test]
async fn a_later_schema_is_refused() {
    let root = directory();
    open(root.path()).await.close().await;
    Connection::open(database(root.path()))
        .unwrap()
        .pragma_update(None, "user_version", 1000)
        .unwrap();
    let error = refused(root.path()).await;
    assert!(
        matches!(error, StoreError::Newer { found: 1000, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn another_programs_database_is_refused() {
    let root = directory();
    let connection = Connection::open(database(root.path())).unwrap();
    connection.execute_batch("CREATE TABLE t (a)").unwrap();
    drop(connection);
    let error = refused(root.path()).await;
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
}

#[tokio::test]
async fn what_is_no_database_is_refused() {
    let root = directory();
    fs::write(database(root.path()), "hello, world\n".repeat(1000)).unwrap();
    let error = refused(root.path()).await;
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn an_empty_file_is_a_first_start_that_was_cut_off() {
    let root = directory();
    fs::write(database(root.path()), "").unwrap();
    put(&open(root.path()).await, "f", CODE).await;
}

#[tokio::test]
async fn a_store_that_lost_its_end_is_refused() {
    let root = directory();
    let store = open(root.path()).await;
    put(&store, "f", &[b'x'; 100_000]).await;
    store.close().await;
    let file = fs::OpenOptions::new()
        .write(true)
        .open(database(root.path()));
    file.unwrap().set_len(3 * 4096).unwrap();
    let error = refused(root.path()).await;
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}

/// The place of some bytes in the file.
fn place(root: &Path, what: &[u8]) -> u64 {
    let content = fs::read(database(root)).unwrap();
    let found = content.windows(what.len()).position(|it| it == what);
    found.expect("it is there") as u64
}

fn flip(root: &Path, at: u64) {
    let mut file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(database(root))
        .unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&[byte[0] ^ 1]).unwrap();
}

#[tokio::test]
async fn damaged_code_is_not_given_out_and_is_mended_by_putting_it_again() {
    let root = directory();
    let store = open(root.path()).await;
    let function = put(&store, "f", CODE).await.function;
    store.close().await;
    flip(root.path(), place(root.path(), CODE));
    let store = open(root.path()).await;
    match store.code(function.code).await {
        Err(StoreError::Damaged { what, .. }) => {
            assert!(what.contains(&function.code.to_string()), "{what}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(put(&store, "f", CODE).await.change, Change::Unchanged);
    let code = store.code(function.code).await.unwrap();
    assert_eq!(code.as_deref(), Some(CODE));
}

#[tokio::test]
async fn a_damaged_function_is_told() {
    let root = directory();
    let store = open(root.path()).await;
    let mut definition = python();
    definition.env.insert("PLACE".into(), "here".into());
    let put = store.put("f", definition, CODE.into(), Condition::None);
    put.await.unwrap();
    store.close().await;
    flip(root.path(), place(root.path(), b"{\"PLACE\""));
    let store = open(root.path()).await;
    for found in [
        store.get("f").await.map(|_| ()),
        store.list(None, 1).await.map(|_| ()),
    ] {
        assert!(
            matches!(found, Err(StoreError::Damaged { .. })),
            "{found:?}"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_used_is_not_stored() {
    let root = directory();
    let store = open(root.path()).await;
    let name = store.put("a/b", python(), CODE.into(), Condition::None);
    assert!(matches!(name.await, Err(StoreError::Invalid(_))));
    let image = store.put("f", Definition::default(), CODE.into(), Condition::None);
    assert!(matches!(image.await, Err(StoreError::Invalid(_))));
    let large = "x".repeat(100_000);
    let setting = store.put_setting("s", &large).await;
    assert!(matches!(setting, Err(StoreError::Invalid(_))));
    store.close().await;
    assert_eq!(look::<i64>(root.path(), "SELECT count(*) FROM code"), 0);
}

#[tokio::test]
async fn a_caller_that_leaves_does_not_stop_it() {
    let root = directory();
    let store = open(root.path()).await;
    for number in 0..20 {
        let put = store.put(
            "f",
            python(),
            format!("{number}").into_bytes(),
            Condition::None,
        );
        // It is handed over, and not waited for.
        let _ = tokio::time::timeout(std::time::Duration::ZERO, put).await;
    }
    put(&store, "last", CODE).await;
    store.close().await;
    let orphans = "SELECT count(*) FROM code WHERE digest NOT IN (SELECT code FROM functions)";
    assert_eq!(look::<i64>(root.path(), orphans), 0);
}

/// A file system that is soon full.
struct Small(TempDir);

impl Small {
    /// None where nothing may be mounted.
    fn new(kib: usize) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("not root: nothing can be mounted, and a full disk is not tried");
            return None;
        }
        let directory = directory();
        let size = format!("size={kib}k");
        mount(
            Some("tmpfs"),
            directory.path(),
            Some("tmpfs"),
            MsFlags::empty(),
            Some(size.as_str()),
        )
        .expect("a mount");
        Some(Self(directory))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = umount2(self.0.path(), MntFlags::MNT_DETACH);
    }
}

impl Small {
    /// Has somebody else take all that is left of it.
    fn fill(&self) -> PathBuf {
        let path = self.0.path().join("filler");
        let mut file = fs::File::create(&path).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        path
    }
}

fn is_full<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    match result {
        Err(error @ StoreError::NoSpace { .. }) => {
            assert!(error.to_string().contains("no room"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

/// Everything in a store is whole.
async fn is_sound(root: &Path) -> Vec<String> {
    let store = open(root).await;
    let functions = store.list(None, 1000).await.unwrap().functions;
    for function in &functions {
        assert!(store.code(function.code).await.unwrap().is_some());
    }
    store.close().await;
    assert_eq!(look::<String>(root, "PRAGMA integrity_check"), "ok");
    functions.into_iter().map(|it| it.name).collect()
}

#[tokio::test]
async fn code_for_which_there_is_no_room_is_refused_and_what_is_there_can_be_deleted() {
    let Some(disk) = Small::new(2048) else { return };
    let store = open(disk.0.path()).await;
    put(&store, "first", CODE).await;
    // Too large for what is there at all; what fits is stored in between.
    for round in 0..5 {
        let large = vec![b'x'; 3 << 20];
        is_full(store.put("large", python(), large, Condition::None).await);
        assert_eq!(store.get("large").await.unwrap(), None);
        put(&store, "small", format!("{round}").as_bytes()).await;
    }
    // Piece by piece until no more fits.
    let mut kept = 0;
    loop {
        let code = vec![b'a' + kept; 100_000];
        let name = format!("piece-{kept}");
        match store.put(&name, python(), code, Condition::None).await {
            Ok(_) => kept += 1,
            refused => break is_full(refused),
        }
        assert!(kept < 25, "more than there is room for");
    }
    assert!(kept > 5, "only {kept} were stored");
    for piece in 0..kept {
        let name = format!("piece-{piece}");
        let gone = store.delete(&name, Condition::None).await;
        assert!(gone.unwrap().is_some());
    }
    put(&store, "another", &[b'-'; 60_000]).await;
    store.close().await;
    assert_eq!(is_sound(disk.0.path()).await, ["another", "first", "small"]);
}

#[tokio::test]
async fn a_disk_that_others_filled_is_told_and_nothing_is_lost() {
    let Some(disk) = Small::new(2048) else { return };
    let store = open(disk.0.path()).await;
    let first = put(&store, "first", CODE).await.function;
    let filler = disk.fill();
    for _ in 0..3 {
        is_full(store.put("f", python(), b"2".into(), Condition::None).await);
        // What is written without asking first finds out by itself.
        is_full(store.put_setting("s", &"x".repeat(60_000)).await);
    }
    assert_eq!(store.get("first").await.unwrap(), Some(first.clone()));
    let code = store.code(first.code).await.unwrap();
    assert_eq!(code.as_deref(), Some(CODE));
    store.close().await;

    // It can be opened, too.
    let store = open(disk.0.path()).await;
    assert_eq!(store.setting::<String>("s").await.unwrap(), None);
    fs::remove_file(filler).unwrap();
    put(&store, "f", b"2").await;
    store.put_setting("s", &"x".repeat(60_000)).await.unwrap();
    store.close().await;
    assert_eq!(is_sound(disk.0.path()).await, ["f", "first"]);
}
