public class Echo {
    public static Object main(Object argument) {
        return argument;
    }
}
