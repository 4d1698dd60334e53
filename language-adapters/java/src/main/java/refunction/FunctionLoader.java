package refunction;

import java.net.URL;
import java.net.URLClassLoader;
import java.security.CodeSource;
import java.security.ProtectionDomain;
import java.security.cert.Certificate;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;

/** Loads the classes of one function, and nothing of the adapter's. */
final class FunctionLoader extends URLClassLoader {
    /** By which frames of a function's are told from the rest. */
    static final String NAME = "function";

    static {
        registerAsParallelCapable();
    }

    private final Queue<Class<?>> defined = new ConcurrentLinkedQueue<>();

    FunctionLoader(URL[] places, ClassLoader parent) {
        super(NAME, places, parent);
    }

    /** The classes that were asked for until now and come from it. */
    List<Class<?>> defined() {
        return List.copyOf(defined);
    }

    @Override
    protected Class<?> findClass(String name) throws ClassNotFoundException {
        Class<?> found = super.findClass(name);
        defined.add(found);
        return found;
    }

    /** Defines the one class that this file holds. */
    Class<?> define(byte[] classFile) {
        CodeSource nowhere = new CodeSource(null, (Certificate[]) null);
        return defineClass(null, classFile, 0, classFile.length, new ProtectionDomain(nowhere, null));
    }
}
