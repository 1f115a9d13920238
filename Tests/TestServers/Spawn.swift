import Glibc

/// A failure of the test's own surroundings: a server that does not start, a program that is missing.
public struct TestSupportError: Error, CustomStringConvertible {
    public let description: String
    public init(_ description: String) { self.description = description }
}

/// Starts a program with `posix_spawn(3)`, in a process group (or session) of its own.
///
/// - Parameters:
///   - arguments: the first is the path of the program.
///   - input: a descriptor, or nil for `/dev/null`; so are `output` and `error`.
/// - Throws: `TestSupportError` when the program does not start.
func spawn(
    _ arguments: [String], environment: [String], input: Int32?, output: Int32?, error: Int32?,
    ownSession: Bool = false
) throws -> pid_t {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    for (number, descriptor) in [(Int32(0), input), (1, output), (2, error)] {
        if let descriptor {
            posix_spawn_file_actions_adddup2(&actions, descriptor, number)
        } else {
            posix_spawn_file_actions_addopen(&actions, number, "/dev/null", number == 0 ? O_RDONLY : O_WRONLY, 0)
        }
    }
    // The test process ignores or blocks signals as it likes; its children start with the defaults.
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var signals = sigset_t()
    sigemptyset(&signals)
    posix_spawnattr_setsigmask(&attributes, &signals)
    sigfillset(&signals)
    posix_spawnattr_setsigdefault(&attributes, &signals)
    let setSession: Int32 = 0x80  // POSIX_SPAWN_SETSID
    let group = ownSession ? setSession : Int32(POSIX_SPAWN_SETPGROUP)
    posix_spawnattr_setflags(
        &attributes, Int16(Int32(POSIX_SPAWN_SETSIGMASK) | Int32(POSIX_SPAWN_SETSIGDEF) | group))

    let words: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
    let variables: [UnsafeMutablePointer<CChar>?] = environment.map { strdup($0) } + [nil]
    defer { for pointer in words + variables { free(pointer) } }
    var pid: pid_t = 0
    let code = posix_spawnp(&pid, arguments[0], &actions, &attributes, words, variables)
    guard code == 0 else {
        throw TestSupportError("\(arguments[0]) does not start: \(String(cString: strerror(code)))")
    }
    return pid
}

/// The environment of this process as a dictionary.
public func inheritedEnvironment() -> [String: String] {
    var result: [String: String] = [:]
    var next = environ
    while let entry = next.pointee {
        let words = String(cString: entry).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        if words.count == 2 { result[String(words[0])] = String(words[1]) }
        next += 1
    }
    return result
}
