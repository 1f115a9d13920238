import Testing

/// Who may import whom. A new module gets a row here, which is where its place in the house is decided.
private let arrows: [String: Set<String>] = [
    "CloudMountVFS": [],
    "CloudMountPlatform": ["CLinux", "CloudMountVFS"],
    "CloudMountHTTP": ["CCurl", "CloudMountVFS", "CloudMountPlatform"],
    "CloudMountXML": ["CXML2", "CloudMountVFS"],
    "CloudMountKit": ["CloudMountVFS", "CloudMountPlatform", "CloudMountHTTP"],
    "CloudMountCrypto": ["COpenSSL"],
    "CloudMountLayers": ["CloudMountVFS", "Logging"],
    "CloudMountConfig": ["CYAML", "CloudMountVFS"],
    "CloudMountStaging": ["CloudMountVFS", "CloudMountPlatform"],
    // FoundationEssentials for `Data`, in which GRDB takes and gives bytes.
    "CloudMountCache": [
        "CloudMountVFS", "CloudMountPlatform", "CloudMountStaging", "CloudMountCrypto", "GRDB", "FoundationEssentials",
    ],
    "CloudMountCommit": ["CloudMountVFS", "CloudMountStaging", "CloudMountPlatform", "Logging"],
    "CloudMountFilesystem": [
        "CloudMountVFS", "CloudMountCommit", "CloudMountCache", "CloudMountStaging", "CloudMountPlatform", "Logging",
        "FoundationEssentials",
    ],
    "CloudMountFUSE": ["CFUSE3", "CloudMountVFS", "CloudMountFilesystem", "CloudMountPlatform", "Logging"],
    "CloudMountDaemon": [
        "CloudMountVFS", "CloudMountConfig", "CloudMountLayers", "CloudMountFilesystem", "CloudMountStaging",
        "CloudMountCache", "CloudMountFUSE", "CloudMountPlatform", "Logging", "FoundationEssentials",
    ],
    // No engine room: the daemon and the configuration.
    "CloudMountCommands": [
        "CloudMountVFS", "CloudMountPlatform", "CloudMountConfig", "CloudMountDaemon", "ArgumentParser", "Logging",
    ],
]

/// A provider sees the vocabulary, the kit, the transport and the cryptography, and nothing else of ours.
private let providerMayImport: Set<String> = [
    "CloudMountVFS", "CloudMountKit", "CloudMountHTTP", "CloudMountXML", "CloudMountPlatform", "CloudMountCrypto",
    "Logging",
]

/// What every module may import.
private let everywhere: Set<String> = ["Glibc", "Synchronization"]

private let systemLibraries: Set<String> = ["CFUSE3", "CCurl", "CYAML", "CXML2", "COpenSSL", "CLinux"]

@Suite("Modules and arrows")
struct ArrowTests {
    @Test("A module imports only what its place in the house allows")
    func modules() throws {
        var wrong: [String] = []
        for module in try SourceTree.folders(in: "Sources") where !systemLibraries.contains(module) {
            if module == "cloudmount" || module == "BuiltinProviders" { continue }
            guard let allowed = arrows[module] else {
                wrong.append("Sources/\(module) has no row in the table of arrows")
                continue
            }
            wrong += try misplaced(in: "Sources/\(module)", allowed: allowed)
        }
        #expect(wrong == [])
    }

    @Test("A provider imports the vocabulary and the transport, never the engine or another provider")
    func providers() throws {
        var wrong: [String] = []
        for provider in try SourceTree.folders(in: "Plugins") {
            wrong += try misplaced(in: "Plugins/\(provider)", allowed: providerMayImport)
        }
        #expect(wrong == [])
    }

    @Test("Providers are named in their list alone, and the program is that list and the commands")
    func program() throws {
        let providers = Set(try SourceTree.folders(in: "Plugins"))
        #expect(try misplaced(in: "Sources/BuiltinProviders", allowed: providers.union(["CloudMountVFS"])) == [])
        #expect(try misplaced(in: "Sources/cloudmount", allowed: ["BuiltinProviders", "CloudMountCommands"]) == [])
    }

    @Test("Each C library has one importer")
    func systemLibraryImporters() throws {
        var importers: [String: Set<String>] = [:]
        for file in try SourceTree.files(below: "Sources") + SourceTree.files(below: "Plugins") {
            for (_, module) in file.imports where systemLibraries.contains(module) {
                importers[module, default: []].insert(file.path.split(separator: "/").prefix(2).joined(separator: "/"))
            }
        }
        for (library, modules) in importers { #expect(modules.count == 1, "\(library): \(modules.sorted())") }
    }

    @Test("Every provider folder has a README with the vendor's quirks")
    func providerManuals() throws {
        let silent = try SourceTree.folders(in: "Plugins").filter { !SourceTree.exists("Plugins/\($0)/README.md") }
        #expect(silent == [])
    }

    @Test("The reader of imports knows their forms")
    func importForms() throws {
        let file = SourceTree.File(
            path: "a.swift",
            lines: [
                "// import Nothing", "import Glibc", "public import A", "@testable import B",
                "@_spi(C) internal import D",
                "import struct E.F", "let important = 1", "import G  // why",
            ])
        #expect(file.imports.map(\.module) == ["Glibc", "A", "B", "D", "E", "G"])
        #expect(try SourceTree.files(below: "Sources").count > 50)
    }

    private func misplaced(in folder: String, allowed: Set<String>) throws -> [String] {
        try SourceTree.files(below: folder).flatMap { file in
            file.imports.filter { !allowed.contains($0.module) && !everywhere.contains($0.module) }
                .map { "\(file.path):\($0.number): import \($0.module)" }
        }
    }
}
