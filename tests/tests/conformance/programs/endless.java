class Main {
    public static String main(boolean args) {
        while (args) {}
        return "over";
    }
}
