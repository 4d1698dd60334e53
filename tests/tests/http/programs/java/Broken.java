package shop;

public class Broken {
    static {
        Integer.parseInt("not a number");
    }

    public Object handle(Object event) {
        return event;
    }
}
