package refunction;

import java.io.IOException;
import java.nio.file.Path;
import java.util.Map;

/** A worker's life: loads one function at a time, and calls it. */
final class Worker {
    private final Channel channel;
    private final Output output;
    private final Fresh fresh;
    private final Environment environment;
    private final ClassLoader parent;
    private final Path root;

    /** What a load ends with. */
    private final Entry rehearsed;

    private Program program;
    private Entry entry;
    /** The function that the container's command names, if it does. */
    private Imported imported;

    private record Imported(String handler, Program program, Entry entry) {}

    Worker(Channel channel, Output output, Fresh fresh, ClassLoader parent, Path root)
            throws Throwable {
        this.channel = channel;
        this.output = output;
        this.fresh = fresh;
        this.parent = parent;
        this.root = root;
        environment = new Environment();
        rehearsed = Entry.find(Worker.class, "echo");
    }

    void warmUp() throws Throwable {
        try (Channel nobody = Channel.toNobody()) {
            WarmUp.of(this, nobody, parent);
        }
    }

    /** Does what it is asked until the supervisor is gone. */
    void serve() throws IOException, ReflectiveOperationException {
        for (Channel.Frame frame = channel.next(); frame != null; frame = channel.next()) {
            answer(frame, channel);
        }
    }

    record Outcome(char kind, String text) {}

    /** Does what is asked, and says there what came of it. */
    Outcome answer(Channel.Frame frame, Channel channel) throws IOException, ReflectiveOperationException {
        // Of a call before, whose interruption nobody took notice of.
        Thread.interrupted();
        Outcome outcome = switch (frame.kind()) {
            case 'L' -> {
                fresh.afterRestore();
                String failure = load(frame.text());
                rehearse();
                yield new Outcome('l', failure == null ? "null" : failure);
            }
            case 'I' -> invoke(frame.text());
            default -> throw new IOException("a frame of kind " + frame.kind());
        };
        output.flush();
        channel.answer(outcome.kind, outcome.text);
        return outcome;
    }

    /** Null, or why it was not loaded. */
    private String load(String text) {
        try {
            unload();
            load((Map<?, ?>) JsonReader.read(text));
            return null;
        } catch (Throwable thrown) {
            return Failure.describe(thrown);
        }
    }

    @SuppressWarnings("unchecked")
    private static Map<String, String> variablesOf(Map<?, ?> message) {
        return message.get("env") instanceof Map<?, ?> variables ? (Map<String, String>) variables : Map.of();
    }

    private void load(Map<?, ?> function) throws Throwable {
        environment.setForCall(Map.of());
        environment.set(variablesOf(function));
        String code = (String) function.get("code");
        String handler = (String) function.get("handler");
        String main = (String) function.get("main");
        if (imported != null && imported.handler.equals(handler) && code.isBlank()) {
            Thread.currentThread().setContextClassLoader(imported.program.loader());
            entry = imported.entry;
            return;
        }
        if (Boolean.TRUE.equals(function.get("binary"))) {
            program = Program.of(code, parent);
        } else if (!code.isBlank()) {
            throw new Refusal(
                    "SourceText",
                    "the code is source text, and there is no compiler here: send a jar or a class file in base64, with \"binary\": true");
        } else if (handler != null || main != null) {
            program = Program.installed(root, parent);
        } else {
            throw new Refusal("EntryNotFound", "there is no code to load");
        }
        enter(handler, main);
    }

    /** Loads a function that nobody sent. */
    void load(Program ours, String handler) throws Throwable {
        unload();
        program = ours;
        enter(handler, null);
    }

    private void enter(String handler, String main) throws Throwable {
        Thread.currentThread().setContextClassLoader(program.loader());
        entry = program.entry(handler, main);
    }

    /** Answers with what it was given. */
    static Map<String, Object> echo(Map<String, Object> argument) {
        return argument;
    }

    /**
     * Calls a function of ours in the way of all calls: a load leaves little of that in the
     * processor's caches, and the first call would have to wait for it.
     */
    private void rehearse() {
        Entry loaded = entry;
        entry = rehearsed;
        invoke(WarmUp.invocation("{\"name\":[\"value\",1]}"));
        entry = loaded;
    }

    /** Makes the function that the container's command names, to be found by every load of it. */
    void importFunction(String handler) throws Throwable {
        Program installed = Program.installed(root, parent);
        Thread.currentThread().setContextClassLoader(installed.loader());
        Entry found = installed.entry(handler, null);
        fresh.adopt(Generators.of(found, installed.loader().defined()));
        imported = new Imported(handler, installed, found);
    }

    void unload() throws IOException {
        Program before = program;
        program = null;
        entry = null;
        Thread.currentThread().setContextClassLoader(parent);
        if (before != null) before.discard();
    }

    private Outcome invoke(String text) {
        try {
            if (entry == null) throw new Refusal("NotLoaded", "no function is loaded");
            Map<?, ?> invocation = (Map<?, ?>) JsonReader.read(text);
            environment.setForCall(variablesOf(invocation));
            Number deadline = (Number) invocation.get("deadline_unix_ms");
            Object argument = invocation.get("data");
            String id = (String) invocation.get("id");
            Map<?, ?> caller = invocation.get("caller") instanceof Map<?, ?> said ? said : Map.of();
            return new Outcome('v', entry.call(argument, id, deadline == null ? null : deadline.longValue(), caller));
        } catch (Throwable thrown) {
            return new Outcome('x', Failure.describe(thrown));
        }
    }
}
