package refunction;

/** The adapter's own answer to what a tenant sent; has no frames to show. */
final class Refusal extends RuntimeException {
    private static final long serialVersionUID = 1L;

    final String kind;

    Refusal(String kind, String message) {
        super(message, null, false, false);
        this.kind = kind;
    }
}
