/// How a provider appears in `mounts.yaml`, in the JSON Schema and in `cloudmount providers`.
///
/// One value per module under `Plugins/`, named in `Sources/BuiltinProviders/BuiltinProviders.swift`.
public struct ProviderDescriptor: Sendable {
    /// The word after `provider:`, such as `s3`.
    public var name: String
    /// One line for a person.
    public var summary: String
    /// What `bucket:` means here, in a few words, such as "bucket name" or "absolute path of a folder".
    public var bucketMeaning: String
    /// How a store is written as one URL. The default is `NAME://BUCKET/PREFIX`.
    public var url: StoreURLForm
    /// Keys allowed on a mount of this provider, beside those that every mount has.
    public var options: [OptionDescriptor]
    /// Keys allowed in a `credentials` entry of this provider. Empty: it takes none.
    public var credentials: [OptionDescriptor]
    /// A mount without `credentials:` is an error.
    public var requiresCredentials: Bool
    /// What is wrong with a mount that is right key by key; nothing on the network.
    public var check: @Sendable (ProviderContext) -> [OptionProblem]
    /// Names the endpoint that a mount calls, such as `http://127.0.0.1:8333`. Mounts of one provider with the same name share its
    /// limits and its breaker: give it to those that fail and are throttled together, and to no others. No secret in it,
    /// and nothing on the network. The default is the mount's own name: shared with nobody. Like `make`, it throws what `check` would
    /// find wrong by now.
    public var endpoint: @Sendable (ProviderContext) throws(VFSError) -> String
    /// Makes the provider for one mount. Nothing on the network yet.
    public var make: @Sendable (ProviderContext) throws(VFSError) -> any ObjectProvider

    public init(
        name: String, summary: String, bucketMeaning: String, url: StoreURLForm? = nil,
        options: [OptionDescriptor] = [],
        credentials: [OptionDescriptor] = [], requiresCredentials: Bool = false,
        check: @escaping @Sendable (ProviderContext) -> [OptionProblem] = { _ in [] },
        endpoint: @escaping @Sendable (ProviderContext) throws(VFSError) -> String = { $0.mountName },
        make: @escaping @Sendable (ProviderContext) throws(VFSError) -> any ObjectProvider
    ) {
        self.name = name
        self.summary = summary
        self.bucketMeaning = bucketMeaning
        self.url = url ?? .bucket(name)
        self.options = options
        self.credentials = credentials
        self.requiresCredentials = requiresCredentials
        self.check = check
        self.endpoint = endpoint
        self.make = make
    }
}

/// One key of `mounts.yaml` that a provider understands.
public struct OptionDescriptor: Sendable {
    public enum Kind: Sendable, Equatable {
        case string, boolean, integer, url, path
        /// Bytes, written with a unit: `8MiB`.
        case size
        /// Written with a unit: `30s`.
        case duration
        case choice([String])
    }

    public var name: String
    public var kind: Kind
    public var summary: String
    /// Shown in the schema; the provider applies it.
    public var defaultText: String?
    public var required: Bool
    /// Never shown in any output.
    public var secret: Bool
    /// Names a program that will be run: refused in a file that everyone may write.
    public var isCommand: Bool

    public init(
        _ name: String, _ kind: Kind, _ summary: String, default defaultText: String? = nil, required: Bool = false,
        secret: Bool = false, isCommand: Bool = false
    ) {
        self.name = name
        self.kind = kind
        self.summary = summary
        self.defaultText = defaultText
        self.required = required
        self.secret = secret
        self.isCommand = isCommand
    }
}

/// A fault that only the provider can see, at the key it concerns.
public struct OptionProblem: Sendable, Equatable {
    /// The option or credential key, or `bucket`, `prefix`, `credentials`.
    public var option: String
    /// What follows the key in a sentence: "is not the name of a bucket". No secret in it.
    public var message: String

    public init(option: String, message: String) {
        self.option = option
        self.message = message
    }
}

public enum OptionValue: Sendable, Equatable {
    case string(String)
    case boolean(Bool)
    /// Also sizes, in bytes.
    case integer(Int)
    case duration(Duration)
}

/// The values given for a descriptor list; kinds have been checked by the parser.
public struct OptionValues: Sendable, Equatable {
    private var values: [String: OptionValue]

    public init(_ values: [String: OptionValue] = [:]) { self.values = values }

    public subscript(name: String) -> OptionValue? {
        get { values[name] }
        set { values[name] = newValue }
    }

    public var names: [String] { values.keys.sorted() }
    public var isEmpty: Bool { values.isEmpty }

    public func string(_ name: String) -> String? {
        if case .string(let value)? = values[name] { value } else { nil }
    }
    public func boolean(_ name: String) -> Bool? {
        if case .boolean(let value)? = values[name] { value } else { nil }
    }
    public func integer(_ name: String) -> Int? {
        if case .integer(let value)? = values[name] { value } else { nil }
    }
    public func duration(_ name: String) -> Duration? {
        if case .duration(let value)? = values[name] { value } else { nil }
    }
}

/// What a provider is made of: one mount's part of `mounts.yaml`.
public struct ProviderContext: Sendable {
    public var mountName: String
    public var bucket: String
    /// Where the mount begins in the bucket, empty or ending in `/`. Keys that reach the provider already carry it; it is
    /// given for probes, which must stay below it.
    public var prefix: String
    public var options: OptionValues
    public var credentials: OptionValues
    /// Nil: each start finds out anew.
    public var memory: (any ProviderMemory)?

    public init(
        mountName: String, bucket: String, prefix: String = "", options: OptionValues = OptionValues(),
        credentials: OptionValues = OptionValues()
    ) {
        self.mountName = mountName
        self.bucket = bucket
        self.prefix = prefix
        self.options = options
        self.credentials = credentials
    }
}
