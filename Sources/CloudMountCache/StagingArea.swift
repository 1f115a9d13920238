/// The folder where bytes of writers are kept until they are committed.
public final class StagingArea: Sendable {
    public init() {}
}
