public class Unready {
    static final int VALUE = Integer.parseInt("not a number");

    public static Object main(Object event) {
        return VALUE;
    }
}
