class Main {
    static Object inner(Object args) {
        throw new IllegalArgumentException("refused: " + args);
    }

    public static Object main(Object args) {
        return inner(args);
    }
}
