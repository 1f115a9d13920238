/// Where the table of mounts lives: what is isolated to it calls each other without waiting, and waits for nobody while it
/// changes anything. Mounts themselves do their work elsewhere.
@globalActor actor Supervision {
    static let shared = Supervision()
}
