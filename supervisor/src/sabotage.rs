//! One handler left out on purpose, to see which test notices (docs/mutants.md).
//! Without the feature `sabotage` nothing can be.

/// True if this handler of the supervisor's is the one to be left out.
#[cfg(not(feature = "sabotage"))]
pub(crate) const fn leaves_out(_handler: &str) -> bool {
    false
}

#[cfg(feature = "sabotage")]
pub(crate) use chosen::{leaves_out, list, settle};

#[cfg(feature = "sabotage")]
mod chosen {
    use refunction_adapter::sabotage::Handler;
    use refunction_snapshot::sabotage;

    use crate::settings::Settings;

    /// Every handler of the supervisor's, and how its row of docs/restore.md begins.
    const HANDLERS: &[(&str, &str)] = &[
        ("pipes:response", PIPES),
        ("pipes:standard-output", PIPES),
        ("pipes:standard-error", PIPES),
        ("pipes:part-of-an-answer", PIPES),
        ("pipes:part-of-a-line", PIPES),
        ("pipes:request", "part of a request in the request pipe"),
        ("files:at-a-rewind", FILES),
        ("files:at-a-refork", FILES),
        ("sandbox:out-of-memory-score", "out-of-memory score"),
        ("sandbox:proc", "memory written through `/proc`"),
        ("sandbox:filter", "anything that a call of no list changes"),
        ("sandbox:groups", UID),
        ("sandbox:group", UID),
        ("sandbox:user", UID),
        ("sandbox:visible", "dumpable"),
        ("sandbox:umask", "umask"),
        ("sandbox:directory", "working directory"),
        ("template:rotation", TEMPLATE),
        ("template:ends-with-its-worker", TEMPLATE),
        ("template:settings", "environment, arguments"),
        ("restore:when-told-to-refork", "hash seed"),
        ("restore:between-functions", PIPES),
        ("beside:directories", BESIDE),
        ("beside:files", BESIDE),
        ("beside:owners", BESIDE),
        ("beside:still-open", BESIDE),
        ("beside:files-of-others", BESIDE),
        ("beside:umask", BESIDE),
        ("beside:filter", OPENED),
        ("beside:no-rewind", OPENED),
        ("beside:another-user", OPENED),
        ("beside:user-held-back", OPENED),
        ("beside:users-of-somebody-else", BESIDE),
        (
            "beside:sockets",
            "… its sockets of abstract names, signals to it",
        ),
    ];

    const PIPES: &str = "what a tenant wrote to its response and output pipes";
    const FILES: &str = "files, supervisor started by hand";
    const BESIDE: &str = "files of a worker that has others beside it";
    const OPENED: &str = "… what it put into a directory that another let it write to";
    const UID: &str = "user, groups, capabilities";
    const TEMPLATE: &str = "hash seed, address-space layout, canaries";

    /// Lists all that can be left out in this program, one a line: whose it is, the
    /// name, the row.
    pub(crate) fn list() {
        for handler in sabotage::handlers() {
            println!("engine\t{}\t{}", handler.name, handler.row);
        }
        for (name, row) in HANDLERS {
            println!("supervisor\t{name}\t{row}");
        }
        let adapters: &[(&str, &[Handler])] = &[
            #[cfg(feature = "python")]
            ("python", refunction_python::sabotage::HANDLERS),
            #[cfg(feature = "javascript")]
            ("javascript", refunction_javascript::sabotage::HANDLERS),
            #[cfg(feature = "node")]
            ("node", refunction_node::sabotage::HANDLERS),
            #[cfg(feature = "java")]
            ("java", refunction_java::sabotage::HANDLERS),
            #[cfg(feature = "lua")]
            ("lua", refunction_lua::sabotage::HANDLERS),
        ];
        for (part, handlers) in adapters {
            for (name, row) in *handlers {
                println!("{part}\t{name}\t{row}");
            }
        }
    }

    /// Settles what is left out, in the supervisor and in its template, whose
    /// environment does not say.
    pub(crate) fn settle(settings: &Settings) {
        sabotage::choose(settings.sabotage.as_deref().unwrap_or_default());
        refunction_adapter::sabotage::choose(sabotage::is_chosen);
    }

    /// See the other one.
    ///
    /// # Panics
    /// No list has the handler: it would never be tried.
    pub(crate) fn leaves_out(handler: &str) -> bool {
        let listed = HANDLERS.iter().any(|(name, _)| *name == handler);
        assert!(listed, "no list has the handler {handler}");
        sabotage::is_chosen(handler)
    }
}
