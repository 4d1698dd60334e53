class Main {
    public static String main(int args) {
        return "x".repeat(args);
    }
}
