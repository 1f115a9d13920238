public import CloudMountVFS
import Glibc

/// The text of a `mounts.yaml`, to be changed in place: what people have written in it stays as it is.
public struct MountsFile: Sendable {
    public let path: String
    public let bytes: [UInt8]
    /// Nil: there is no such file yet.
    private let was: (bytes: [UInt8], mode: UInt32, owner: UInt32)?

    private static let fresh = "version: 1\n\nmounts:\n"

    /// Reads it; one that does not exist begins empty.
    /// - Throws: what keeps it from being read.
    public init(path: String) throws(ConfigurationError) {
        self.path = path
        guard access(path, F_OK) == 0 || errno != ENOENT else {
            was = nil
            bytes = Array(Self.fresh.utf8)
            return
        }
        do throws(SmallFile.Fault) {
            let content = try SmallFile(path: path, limit: Configuration.maxFileSize)
            was = (content.bytes, content.mode, content.owner)
            bytes = content.bytes
        } catch {
            var problems = Problems(file: path)
            problems.error(nil, "cannot be read: \(error.message)")
            throw problems.error
        }
    }

    private init(_ other: MountsFile, _ bytes: [UInt8]) {
        path = other.path
        was = other.was
        self.bytes = bytes
    }

    /// What it amounts to.
    public func configuration(
        providers: [ProviderDescriptor], environment: [String: String]
    ) throws(ConfigurationError) -> Configuration {
        try Configuration.parse(
            bytes, file: path, mode: was?.mode ?? 0o600, owner: was?.owner ?? geteuid(), providers: providers,
            places: UserPlaces(environment: environment))
    }

    /// The same with one mount more, behind the others, and what it amounts to.
    /// - Throws: what is wrong with the file as it is, or would be; faults of the mount name its URL.
    public func adding(
        _ entry: MountEntry, providers: [ProviderDescriptor], environment: [String: String]
    ) throws(ConfigurationError) -> (file: MountsFile, configuration: Configuration) {
        let refusal = Self.error(
            path,
            "no line can be added to its mounts as they are written; write the mount of \(StoreURL.shown(entry.url)) by hand"
        )
        guard let (text, line) = try lines().inserting(entry.line) else { throw refusal }
        let file = MountsFile(self, Array(text.utf8))
        let configuration: Configuration
        do throws(ConfigurationError) {
            configuration = try file.configuration(providers: providers, environment: environment)
        } catch {
            throw ConfigurationError(
                problems: error.problems.map { problem in
                    guard problem.line == line else { return problem }
                    let url = StoreURL.shown(entry.url)
                    return ConfigurationProblem(file: url, line: 0, column: 0, message: problem.message)
                })
        }
        // Nothing else may mean anything else now.
        var others = configuration
        others.mounts.removeAll { $0.name == entry.name }
        let before = try? self.configuration(providers: providers, environment: environment)
        guard others.mounts.count == configuration.mounts.count - 1,
            before.map({ $0.effectiveText == others.effectiveText }) ?? others.mounts.isEmpty,
            // Nor is it another place than the one that was named.
            let mount = configuration.mounts.first(where: { $0.name == entry.name }),
            mount.context.bucket.utf8.elementsEqual(entry.place.bucket.utf8),
            mount.context.prefix.utf8.elementsEqual(entry.wholePrefix.utf8)
        else { throw refusal }
        return (file, configuration)
    }

    /// The same without one of its mounts, and what it amounts to.
    /// - Throws: what is wrong with the file; that it has no such mount, or is written so that the mount cannot be cut out.
    public func removing(
        _ name: String, providers: [ProviderDescriptor], environment: [String: String]
    ) throws(ConfigurationError) -> (file: MountsFile, configuration: Configuration) {
        var others = try configuration(providers: providers, environment: environment)
        let names = others.mounts.map(\.name)
        guard names.contains(name) else {
            let known = names.isEmpty ? "it has none" : "it has \(names.joined(separator: ", "))"
            throw Self.error(path, "there is no mount '\(name)'; \(known)\(NearestWord.hint(name, among: names))")
        }
        others.mounts.removeAll { $0.name == name }
        let cannot = Self.error(
            path, "the mount '\(name)' cannot be cut out of it as it is written; 'cloudmount edit' opens the file")
        guard let text = try lines().removing(name) else { throw cannot }
        let file = MountsFile(self, Array(text.utf8))
        guard let configuration = try? file.configuration(providers: providers, environment: environment),
            configuration.effectiveText == others.effectiveText
        else { throw cannot }
        return (file, configuration)
    }

    /// The same file with another content.
    public func replacing(_ bytes: [UInt8]) -> MountsFile { MountsFile(self, bytes) }

    private func lines() throws(ConfigurationError) -> MountsText {
        var problems = Problems(file: path)
        let tree = YAMLTree.parse(bytes, problems: &problems)
        guard problems.errors.isEmpty else { throw problems.error }
        return MountsText(String(decoding: bytes, as: UTF8.self), tree)
    }

    /// Puts it in the place of the file as it was read, or makes the file (mode 0600): whole, or not at all. What was there
    /// before is `FILE.bak` then.
    /// - Throws: also when somebody else has changed it since.
    public func save() throws(ConfigurationError) {
        if was == nil { Self.makeFolders(path) }
        // A link to the file stays one.
        let resolved = realpath(path, nil).map { pointer in
            defer { free(pointer) }
            return String(cString: pointer)
        }
        let place = resolved ?? path
        let now = try? SmallFile(path: place, limit: Configuration.maxFileSize)
        guard now?.bytes == was?.bytes else { throw Self.error(path, "has just been changed by somebody else") }
        var status = stat()
        let isThere = was != nil && stat(place, &status) == 0
        if isThere, let was { try replace(place + Self.backup, by: was.bytes, as: status) }
        try replace(place, by: bytes, as: isThere ? status : nil)
        Self.sync(folderOf: place)
    }

    /// What the file is called that has the content from before.
    public static let backup = ".bak"

    /// - Parameter status: what it has of owner and mode; nil: mode 0600.
    private func replace(_ place: String, by bytes: [UInt8], as status: stat?) throws(ConfigurationError) {
        let draft = "\(place).new-\(getpid())"
        unlink(draft)
        let descriptor = open(draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw Self.error(path, "cannot be written: \(String(cString: strerror(errno)))") }
        defer { close(descriptor) }
        if let status { _ = fchown(descriptor, status.st_uid, status.st_gid) }
        var done = 0
        while done < bytes.count {
            let count = bytes[done...].withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { break }
            done += count
        }
        let mode = status.map { $0.st_mode & 0o7777 } ?? 0o600
        guard done == bytes.count, fchmod(descriptor, mode) == 0, fsync(descriptor) == 0, rename(draft, place) == 0
        else {
            let reason = String(cString: strerror(errno))
            unlink(draft)
            throw Self.error(path, "cannot be written: \(reason)")
        }
    }

    private static func sync(folderOf path: String) {
        let folder = open(parent(of: path), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard folder >= 0 else { return }
        fsync(folder)
        close(folder)
    }

    private static func parent(of path: String) -> String {
        guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    private static func makeFolders(_ path: String) {
        let folder = parent(of: path)
        guard folder != ".", folder != "/", access(folder, F_OK) != 0 else { return }
        makeFolders(folder)
        mkdir(folder, 0o700)
    }

    private static func error(_ path: String, _ message: String) -> ConfigurationError {
        var problems = Problems(file: path)
        problems.error(nil, message)
        return problems.error
    }
}
