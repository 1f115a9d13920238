import CloudMountVFS

/// One key of `mounts.yaml`, declared once: the parser, the JSON Schema and the suggestions all read it.
struct Setting: Sendable {
    indirect enum Kind: Sendable {
        case value(OptionDescriptor.Kind)
        /// What a mount, a policy or a credentials entry is called.
        case name
        /// Of a user or a group.
        case id
        /// Permission bits, in octal.
        case octal
        /// Must be just this number.
        case constant(Int)
        case section(Section)
        /// A mapping from names that the user chooses to sections.
        case table(Section)
        case list(Section)
        /// The name of an entry elsewhere, or a section in place.
        case nameOr(Section)
        /// Known, but no part of this version.
        case later
    }

    var name: String
    var kind: Kind
    var summary: String
    /// Shown in the schema and, where it is a constant, applied by `Configuration+Load.swift`.
    var defaultText: String?
    var required: Bool
    var secret: Bool
    /// Names a program that will be run.
    var isCommand = false
    /// Version of the file format that first had it.
    var since: Int

    init(
        _ name: String, _ kind: Kind, _ summary: String, default defaultText: String? = nil, required: Bool = false,
        secret: Bool = false, since: Int = 1
    ) {
        self.name = name
        self.kind = kind
        self.summary = summary
        self.defaultText = defaultText
        self.required = required
        self.secret = secret
        self.since = since
    }

    init(_ option: OptionDescriptor) {
        self.init(
            option.name, .value(option.kind), option.summary, default: option.defaultText, required: option.required,
            secret: option.secret)
        isCommand = option.isCommand
    }
}

/// A mapping with known keys.
struct Section: Sendable {
    /// Which of a provider's keys join the settings, by the section's `provider` key.
    enum ProviderPart: Sendable { case options, credentials }

    /// For messages: "unknown key 'x' in *the cache section*".
    var title: String
    var settings: [Setting]
    var providerPart: ProviderPart?

    init(_ title: String, _ settings: [Setting], providerPart: ProviderPart? = nil) {
        self.title = title
        self.settings = settings
        self.providerPart = providerPart
    }
}
