class Main {
    public static int main(String args) {
        System.out.println("out " + args);
        System.err.println("err " + args);
        return args.length();
    }
}
