package refunction;

import java.io.IOException;
import java.net.URL;
import java.util.Enumeration;

/** What functions see of the JVM: all of the JDK's modules, and nothing of the adapter. */
final class Surface extends ClassLoader {
    private static final String ADAPTER = "refunction.";

    static {
        registerAsParallelCapable();
    }

    Surface() {
        // The platform's loader alone would do but for the modules that this one has.
        super("surface", ClassLoader.getSystemClassLoader());
    }

    @Override
    protected Class<?> loadClass(String name, boolean resolve) throws ClassNotFoundException {
        if (name.startsWith(ADAPTER)) throw new ClassNotFoundException(name);
        return super.loadClass(name, resolve);
    }

    @Override
    public URL getResource(String name) {
        return getPlatformClassLoader().getResource(name);
    }

    @Override
    public Enumeration<URL> getResources(String name) throws IOException {
        return getPlatformClassLoader().getResources(name);
    }
}
