class Main {
    public static int main(int args) {
        return args == 0 ? 0 : main(args) + 1;
    }
}
