class Main {
    public static Object main(Object args) {
        return args;
    }
}
