public import CloudMountVFS
import Glibc

/// One mount as a command line names it, to be a line of `mounts.yaml`.
public struct MountEntry: Sendable {
    /// Why the words make no mount.
    public struct Fault: Error, Sendable, Equatable {
        public var message: String

        public init(message: String) { self.message = message }
    }

    public enum Credentials: Sendable, Equatable {
        /// An entry of the file's `credentials`.
        case named(String)
        /// No secret among them: they would stand in the file.
        case inPlace([String: String])
    }

    public var name: String
    public let path: String
    public let provider: ProviderDescriptor
    public let place: StorePlace
    public let url: String
    public var options: [String: String] = [:]
    public var credentials: Credentials?
    /// Name of a policy.
    public var cache: String?
    public var isReadOnly = false

    /// - Parameters:
    ///   - url: `SCHEME://…`, of a provider in the list.
    ///   - path: where it is mounted; relative to the current folder.
    ///   - name: nil: made of the end of the URL.
    public init(url: String, path: String, name: String? = nil, providers: [ProviderDescriptor]) throws(Fault) {
        guard let parsed = StoreURL(url) else {
            throw Fault(message: "'\(StoreURL.shown(url))' is not a URL such as s3://bucket/prefix")
        }
        guard let provider = providers.first(where: { $0.url.schemes.contains(parsed.scheme) }) else {
            let known = providers.flatMap(\.url.schemes)
            throw Fault(
                message: "no provider takes '\(parsed.scheme)://' (known: \(known.joined(separator: ", ")))"
                    + NearestWord.hint(parsed.scheme, among: known))
        }
        guard let place = provider.url.place(parsed) else {
            throw Fault(message: "'\(StoreURL.shown(url))' is not of the form \(provider.url.example)")
        }
        self.url = url
        self.provider = provider
        self.place = place
        self.path = Self.absolute(path)
        self.name = name ?? Self.name(of: parsed)
        if let name, let fault = ValueReader.nameFault(name) { throw Fault(message: "'--name \(name)' \(fault)") }
    }

    private static func absolute(_ path: String) -> String {
        guard !path.hasPrefix("/"), let here = getcwd(nil, 0) else { return path }
        defer { free(here) }
        var components = String(cString: here).split(separator: "/")
        for component in path.split(separator: "/") where component != "." {
            if component == ".." { _ = components.popLast() } else { components.append(component) }
        }
        return "/" + components.joined(separator: "/")
    }

    /// The last part of the URL that says anything, as a name may be.
    static func name(of url: StoreURL) -> String {
        let part = url.rest.split(separator: "/").last ?? "mount"
        let legal = part.unicodeScalars.map { scalar -> Character in
            let isPlain = scalar.isASCII && (scalar.properties.isAlphabetic || ("0"..."9").contains(scalar))
            return isPlain || scalar == "." || scalar == "_" || scalar == "-" ? Character(scalar) : "-"
        }
        let name = String(legal.drop { !$0.isLetter && !$0.isNumber }.prefix(64))
        return name.isEmpty ? "mount" : name
    }

    /// As the provider is given it: it ends with a slash.
    var wholePrefix: String { place.prefix.isEmpty || place.prefix.hasSuffix("/") ? place.prefix : place.prefix + "/" }

    /// Its line in `mounts.yaml`, without the dash.
    var line: String {
        var members = [
            ("name", Self.scalar(name)), ("path", Self.scalar(path)), ("provider", Self.scalar(provider.name)),
        ]
        members.append(("bucket", Self.scalar(place.bucket)))
        if !place.prefix.isEmpty { members.append(("prefix", Self.scalar(place.prefix))) }
        for (key, value) in options.sorted(by: { $0.key < $1.key }) {
            members.append((key, scalar(value, of: provider.options.first { $0.name == key })))
        }
        switch credentials {
        case nil: break
        case .named(let name): members.append(("credentials", Self.scalar(name)))
        case .inPlace(let values):
            let inner = values.sorted { $0.key < $1.key }.map { key, value in
                "\(key): \(scalar(value, of: provider.credentials.first { $0.name == key }))"
            }
            let all = ["provider: \(Self.scalar(provider.name))"] + inner
            members.append(("credentials", "{ \(all.joined(separator: ", ")) }"))
        }
        if let cache { members.append(("cache", Self.scalar(cache))) }
        if isReadOnly { members.append(("read_only", "true")) }
        return "{ " + members.map { "\($0): \($1)" }.joined(separator: ", ") + " }"
    }

    /// Numbers and words of truth stand without quotes where they are meant.
    private func scalar(_ text: String, of option: OptionDescriptor?) -> String {
        let isBare = option?.kind == .boolean || option?.kind == .integer
        let isWord = !text.isEmpty && text.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x7A).contains($0) }
        return isBare && isWord ? text : Self.scalar(text)
    }

    /// As it is: what looks like a reference is none.
    private static func scalar(_ text: String) -> String {
        let plain = text.unicodeScalars.allSatisfy {
            $0.isASCII
                && ($0.properties.isAlphabetic || ("0"..."9").contains($0) || "/._-".unicodeScalars.contains($0))
        }
        let startsWell = text.unicodeScalars.first.map { $0.properties.isAlphabetic || $0 == "/" } ?? false
        let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
        return plain && startsWell && !words.contains(text.lowercased())
            ? text : JSONValue.quoted(text.replacing("${", with: "$${"))
    }
}
