import ArgumentParser
import CloudMountConfig
import CloudMountDaemon
import CloudMountVFS

struct CheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Tells all that is wrong with a configuration, or else what it amounts to, secrets hidden.")

    @OptionGroup var source: ConfigurationFile
    @Argument(help: "The configuration, as with -f.")
    var file: String?

    func validate() throws {
        if file != nil, source.file != nil { throw ValidationError("Give the file once.") }
    }

    func run() throws { print(try source.load(file).effectiveText, terminator: "") }
}

struct SchemaCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "schema", abstract: "Prints the JSON Schema of mounts.yaml, for editors.")

    @OptionGroup var source: ConfigurationFile

    func run() throws { print(JSONSchema.text(providers: CloudMountProgram.providers), terminator: "") }
}

struct ProvidersCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "providers", abstract: "Lists the kinds of stores and their keys in mounts.yaml.")

    @OptionGroup var source: ConfigurationFile

    func run() throws {
        for provider in CloudMountProgram.providers {
            print("\(provider.name): \(provider.summary)")
            print("  bucket: \(provider.bucketMeaning)")
            print("  URL: \(provider.url.example) (\(provider.url.schemes.joined(separator: ", ")))")
            show(provider.options, title: "on the mount")
            show(provider.credentials, title: provider.requiresCredentials ? "credentials (required)" : "credentials")
        }
    }

    private func show(_ options: [OptionDescriptor], title: String) {
        if options.isEmpty { return }
        print("  \(title):")
        let width = options.map(\.name.count).max() ?? 0
        for option in options {
            let pad = String(repeating: " ", count: width - option.name.count)
            let notes = (option.required ? " (required)" : "") + (option.defaultText.map { " (default: \($0))" } ?? "")
            print("    \(option.name)\(pad)  \(option.summary)\(notes)")
        }
    }
}

struct VersionCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "version", abstract: "Prints the version.")

    @OptionGroup var source: ConfigurationFile

    func run() throws { print("cloudmount \(buildVersion)") }
}
