class Main {
    public static Object main(Object args) {
        throw new IllegalArgumentException("half of \ud83d a pair");
    }
}
