class Main {
    public static Object another(Object args) {
        return args;
    }
}
