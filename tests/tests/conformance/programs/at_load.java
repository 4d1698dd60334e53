class Main {
    static final int LOADED = refuse();

    static int refuse() {
        throw new IllegalArgumentException("not to be loaded");
    }

    public static Object main(Object args) {
        return args;
    }
}
