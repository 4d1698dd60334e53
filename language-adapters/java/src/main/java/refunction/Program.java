package refunction;

import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.net.MalformedURLException;
import java.net.URL;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collections;
import java.util.List;
import java.util.jar.Attributes;
import java.util.jar.JarEntry;
import java.util.jar.JarFile;
import java.util.jar.Manifest;
import java.util.zip.ZipException;

/** What a tenant sent: its classes, and the one that its entry is in. */
final class Program {
    private static final long ARCHIVE_LIMIT = 512L << 20;
    private static final int ARCHIVE_ENTRIES = 50_000;
    private static final String LIBRARIES = "lib/";

    /** Of the names of directories that programs have. */
    static final String PREFIX = "function-";

    private final FunctionLoader loader;
    /** The class to be taken where none is named. */
    private final String usual;
    /** What it was unpacked to; nothing if its files are somebody else's. */
    private final File directory;

    private Program(FunctionLoader loader, String usual, File directory) {
        this.loader = loader;
        this.usual = usual;
        this.directory = directory;
    }

    /** Closes what it was loaded from, and removes what was made for it. */
    void discard() throws IOException {
        loader.close();
        if (directory != null) remove(directory);
    }

    /** With what is in it; some of it may be gone already. */
    private static void remove(File entry) {
        File[] inside = Files.isSymbolicLink(entry.toPath()) ? null : entry.listFiles();
        if (inside != null) {
            for (File file : inside) remove(file);
        }
        entry.delete();
    }

    FunctionLoader loader() {
        return loader;
    }

    /** From code as it was sent: a class file or a jar, in base64. */
    static Program of(String code, ClassLoader parent) throws IOException {
        byte[] bytes;
        try {
            bytes = Base64.getDecoder().decode(code.strip());
        } catch (IllegalArgumentException lines) {
            try {
                bytes = Base64.getDecoder().decode(code.replaceAll("\\s", ""));
            } catch (IllegalArgumentException error) {
                throw new Refusal("BadArchive", "the code is not base64: " + error.getMessage());
            }
        }
        if (startsWith(bytes, 0xca, 0xfe, 0xba, 0xbe)) {
            FunctionLoader loader = new FunctionLoader(new URL[0], parent);
            return new Program(loader, loader.define(bytes).getName(), null);
        }
        if (startsWith(bytes, 'P', 'K')) {
            return ofArchive(bytes, Files.createTempDirectory(PREFIX), parent);
        }
        throw new Refusal("BadArchive", "the code is neither a jar (or zip) nor a class file");
    }

    private static boolean startsWith(byte[] bytes, int... magic) {
        for (int index = 0; index < magic.length; index++) {
            if (index == bytes.length || bytes[index] != (byte) magic[index]) return false;
        }
        return true;
    }

    /** From a jar, and what is unpacked of it, in this directory, which goes with the program. */
    static Program ofArchive(byte[] bytes, Path directory, ClassLoader parent) throws IOException {
        Path archive = Files.write(directory.resolve("function.jar"), bytes);
        try {
            return ofJar(archive, directory, parent);
        } catch (ZipException error) {
            remove(directory.toFile());
            throw new Refusal("BadArchive", "the code is not a usable archive: " + error.getMessage());
        }
    }

    /** From a jar that is there, without jars in it where there is no directory. */
    static Program ofJar(Path archive, Path directory, ClassLoader parent) throws IOException {
        List<URL> places = new ArrayList<>(List.of(archive.toUri().toURL()));
        // It stays open: the loader, which opens it too, then shares what was read of it.
        JarFile jar = new JarFile(archive.toFile(), false);
        unpackLibraries(jar, directory, places);
        Manifest manifest = jar.getManifest();
        String main = manifest == null ? null : manifest.getMainAttributes().getValue(Attributes.Name.MAIN_CLASS);
        String usual = main == null ? "Main" : main.strip();
        File made = directory == null ? null : directory.toFile();
        return new Program(new FunctionLoader(places.toArray(URL[]::new), parent), usual, made);
    }

    /** Jars in a jar, as Lambda's archives have them. */
    private static void unpackLibraries(JarFile jar, Path directory, List<URL> places) throws IOException {
        if (jar.size() > ARCHIVE_ENTRIES) {
            throw new Refusal("BadArchive", "the archive has " + jar.size() + " entries; " + ARCHIVE_ENTRIES + " are allowed");
        }
        long total = 0;
        for (JarEntry entry : Collections.list(jar.entries())) {
            total += Math.max(0, entry.getSize());
            if (total > ARCHIVE_LIMIT) {
                throw new Refusal("BadArchive", "the archive unpacks to more than " + ARCHIVE_LIMIT + " bytes");
            }
            String name = entry.getName();
            boolean isLibrary = name.startsWith(LIBRARIES) && name.endsWith(".jar")
                    && name.indexOf('/', LIBRARIES.length()) < 0;
            if (!isLibrary) continue;
            Path target = Files.createDirectories(directory.resolve("lib")).resolve(name.substring(LIBRARIES.length()));
            try (InputStream source = jar.getInputStream(entry)) {
                Files.copy(source, target);
            }
            places.add(target.toUri().toURL());
        }
    }

    /** From where a container's image keeps its function. */
    static Program installed(Path root, ClassLoader parent) throws IOException {
        List<URL> places = new ArrayList<>(List.of(root.toUri().toURL()));
        places.addAll(jarsIn(root));
        places.addAll(jarsIn(root.resolve(LIBRARIES)));
        return new Program(new FunctionLoader(places.toArray(URL[]::new), parent), "Main", null);
    }

    private static List<URL> jarsIn(Path directory) throws MalformedURLException {
        List<URL> jars = new ArrayList<>();
        File[] files = directory.toFile().listFiles((in, name) -> name.endsWith(".jar"));
        if (files == null) return jars;
        java.util.Arrays.sort(files);
        for (File file : files) jars.add(file.toURI().toURL());
        return jars;
    }

    /** The entry that these name, if they do. */
    Entry entry(String handler, String main) throws Throwable {
        if (handler != null) {
            String[] parts = split(handler, "::");
            return parts.length == 1 ? Entry.find(named(parts[0]), "handleRequest") : Entry.find(named(parts[0]), parts[1]);
        }
        if (main != null) {
            String[] parts = split(main.replace("::", "#"), "#");
            return Entry.find(named(parts[0]), parts.length == 1 ? "main" : parts[1]);
        }
        return Entry.find(named(usual), "main", "handleRequest");
    }

    private static String[] split(String name, String separator) {
        String[] parts = name.split(separator, -1);
        boolean isWhole = parts.length <= 2 && !parts[0].isEmpty() && !parts[parts.length - 1].isEmpty();
        if (isWhole) return parts;
        throw new Refusal("EntryNotFound", "the entry '" + name + "' is not of the form package.Class" + separator + "method");
    }

    private Class<?> named(String name) throws Throwable {
        try {
            return Class.forName(name.replace('/', '.'), true, loader);
        } catch (ClassNotFoundException error) {
            throw new Refusal("EntryNotFound", "the function has no class " + name);
        } catch (ExceptionInInitializerError error) {
            throw error.getCause() == null ? error : error.getCause();
        }
    }
}
