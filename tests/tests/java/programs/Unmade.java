public class Unmade {
    public Unmade() {
        throw new IllegalStateException("not to be made");
    }

    public Object handleRequest(Object event) {
        return event;
    }
}
