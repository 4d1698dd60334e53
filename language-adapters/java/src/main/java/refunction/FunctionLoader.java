package refunction;

import java.net.URL;
import java.net.URLClassLoader;
import java.security.CodeSource;
import java.security.ProtectionDomain;
import java.security.cert.Certificate;

/** Loads the classes of one function, and nothing of the adapter's. */
final class FunctionLoader extends URLClassLoader {
    /** By which frames of a function's are told from the rest. */
    static final String NAME = "function";

    static {
        registerAsParallelCapable();
    }

    FunctionLoader(URL[] places, ClassLoader parent) {
        super(NAME, places, parent);
    }

    /** Defines the one class that this file holds. */
    Class<?> define(byte[] classFile) {
        CodeSource nowhere = new CodeSource(null, (Certificate[]) null);
        return defineClass(null, classFile, 0, classFile.length, new ProtectionDomain(nowhere, null));
    }
}
