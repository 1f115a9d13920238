// swift-tools-version: 6.2
import PackageDescription

// The house rules of every Swift target; the reasons are in ARCHITECTURE.md. `make test` sets CLOUDMOUNT_STRICT: there a
// warning is an error, in our own targets only.
let houseRules: [SwiftSetting] =
    [
        .enableUpcomingFeature("ExistentialAny"),
        .enableUpcomingFeature("MemberImportVisibility"),
        .enableUpcomingFeature("InternalImportsByDefault"),
        .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    ] + (Context.environment["CLOUDMOUNT_STRICT"] == nil ? [] : [.treatAllWarnings(as: .error)])

/// A module of the house under `Sources/`, with the modules below it that it may import.
func module(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, path: "Sources/\(name)", swiftSettings: houseRules)
}

/// A provider: one folder under `Plugins/`, which sees the vocabulary and the transport and nothing else of ours.
func provider(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(
        name: name, dependencies: ["CloudMountVFS"] + dependencies, path: "Plugins/\(name)", exclude: ["README.md"],
        swiftSettings: houseRules)
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .testTarget(name: name, dependencies: dependencies, path: "Tests/\(name)", swiftSettings: houseRules)
}

let log: Target.Dependency = .product(name: "Logging", package: "swift-log")

let package = Package(
    name: "CloudMount",
    products: [
        .executable(name: "cloudmount", targets: ["cloudmount"]),
        // What a provider outside this repository is written with,
        .library(
            name: "CloudMountKit",
            targets: [
                "CloudMountKit", "CloudMountVFS", "CloudMountPlatform", "CloudMountHTTP", "CloudMountXML",
                "CloudMountCrypto",
            ]),
        // what a program with it is made of,
        .library(name: "CloudMountCommands", targets: ["CloudMountCommands", "BuiltinProviders"]),
        // and what it is tested with.
        .library(name: "ProviderConformance", targets: ["ProviderConformance"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        // On Debian's libsqlite3-dev.
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
    ],
    targets: [
        .systemLibrary(name: "CFUSE3", path: "Sources/CFUSE3", pkgConfig: "fuse3", providers: [.apt(["libfuse3-dev"])]),
        .systemLibrary(
            name: "CCurl", path: "Sources/CCurl", pkgConfig: "libcurl", providers: [.apt(["libcurl4-openssl-dev"])]),
        .systemLibrary(
            name: "CYAML", path: "Sources/CYAML", pkgConfig: "yaml-0.1", providers: [.apt(["libyaml-dev"])]),
        .systemLibrary(
            name: "CXML2", path: "Sources/CXML2", pkgConfig: "libxml-2.0", providers: [.apt(["libxml2-dev"])]),
        .systemLibrary(
            name: "COpenSSL", path: "Sources/COpenSSL", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(name: "CLinux", path: "Sources/CLinux"),

        module("CloudMountVFS"),
        module("CloudMountPlatform", ["CLinux", "CloudMountVFS"]),
        module("CloudMountHTTP", ["CCurl", "CloudMountVFS", "CloudMountPlatform"]),
        module("CloudMountXML", ["CXML2", "CloudMountVFS"]),
        module("CloudMountKit", ["CloudMountVFS", "CloudMountPlatform", "CloudMountHTTP"]),
        module("CloudMountCrypto", ["COpenSSL"]),
        module("CloudMountLayers", ["CloudMountVFS", log]),
        module("CloudMountConfig", ["CYAML", "CloudMountVFS"]),
        module("CloudMountStaging", ["CloudMountVFS", "CloudMountPlatform"]),
        // What lies on the local disk and outlives the process; the only importer of GRDB.
        module(
            "CloudMountCache",
            [
                "CloudMountVFS", "CloudMountPlatform", "CloudMountStaging", "CloudMountCrypto",
                .product(name: "GRDB", package: "GRDB.swift"),
            ]),
        module("CloudMountCommit", ["CloudMountVFS", "CloudMountStaging", "CloudMountPlatform", log]),
        module(
            "CloudMountFilesystem",
            ["CloudMountVFS", "CloudMountCommit", "CloudMountStaging", "CloudMountCache", "CloudMountPlatform", log]),
        module("CloudMountFUSE", ["CFUSE3", "CloudMountVFS", "CloudMountFilesystem", "CloudMountPlatform", log]),
        module(
            "CloudMountDaemon",
            [
                "CloudMountVFS", "CloudMountConfig", "CloudMountLayers", "CloudMountFilesystem", "CloudMountStaging",
                "CloudMountCache", "CloudMountFUSE", "CloudMountPlatform", log,
            ]),

        provider(
            "S3Provider",
            ["CloudMountKit", "CloudMountPlatform", "CloudMountHTTP", "CloudMountXML", "CloudMountCrypto", log]),
        provider("B2Provider", ["CloudMountKit", "CloudMountPlatform", "CloudMountHTTP", "CloudMountCrypto"]),
        provider("DirectoryProvider", ["CloudMountPlatform"]),
        provider("MemoryProvider", ["CloudMountPlatform"]),
        provider("WebDAVProvider", ["CloudMountKit", "CloudMountPlatform", "CloudMountHTTP", "CloudMountXML"]),
        // The example of one over HTTP, and a program that has it beside the others.
        provider("TapeProvider", ["CloudMountKit", "CloudMountPlatform", "CloudMountHTTP"]),
        .executableTarget(
            name: "tape-program", dependencies: ["CloudMountCommands", "BuiltinProviders", "TapeProvider"],
            path: "Tests/TapeProgram", swiftSettings: houseRules),
        tests(
            "TapeProviderTests",
            [
                "TapeProvider", "ProviderConformance", "CloudMountKit", "CloudMountHTTP", "CloudMountVFS",
                "TestServers",
            ]),

        tests("CloudMountXMLTests", ["CloudMountXML", "TestSeeds"]),
        tests("CloudMountCryptoTests", ["CloudMountCrypto", "CloudMountPlatform"]),
        tests(
            "S3ProviderTests",
            [
                "S3Provider", "CloudMountKit", "CloudMountHTTP", "CloudMountPlatform", "CloudMountVFS", "CloudMountXML",
                "TestServers", "TestSeeds", "CloudMountCrypto",
            ]),
        tests(
            "B2ProviderTests",
            [
                "B2Provider", "CloudMountKit", "CloudMountHTTP", "CloudMountPlatform", "CloudMountVFS", "TestServers",
                "TestSeeds", "CloudMountCrypto",
            ]),

        module(
            "BuiltinProviders",
            ["CloudMountVFS", "S3Provider", "B2Provider", "DirectoryProvider", "MemoryProvider", "WebDAVProvider"]),
        module(
            "CloudMountCommands",
            [
                "CloudMountDaemon", "CloudMountConfig", "CloudMountPlatform", "CloudMountVFS", log,
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ]),
        .executableTarget(
            name: "cloudmount", dependencies: ["CloudMountCommands", "BuiltinProviders"], path: "Sources/cloudmount",
            swiftSettings: houseRules),
        tests("CloudMountConfigTests", ["CloudMountConfig", "CloudMountVFS", "TestSeeds"]),
        tests(
            "CloudMountDaemonTests",
            [
                "CloudMountDaemon", "CloudMountConfig", "CloudMountVFS", "CloudMountFilesystem", "CloudMountLayers",
                "CloudMountPlatform", "CloudMountStaging", "CloudMountCache", "MountHarness", "MemoryProvider",
                "TestSeeds",
                log,
            ]),

        tests(
            "CloudMountFUSETests", ["CloudMountFUSE", "CloudMountFilesystem", "CloudMountPlatform", "CloudMountVFS"]),
        // Real servers, a faulty proxy and child processes for the tests.
        .target(
            name: "TestServers", dependencies: ["CloudMountPlatform"], path: "Tests/TestServers",
            swiftSettings: houseRules),
        tests("TestServersTests", ["TestServers"]),
        // How long changes of fragmented files take: `swift run -c release extent-bench`.
        .executableTarget(
            name: "extent-bench", dependencies: ["CloudMountStaging", "CloudMountVFS", "TestSeeds"],
            path: "Tests/ExtentBench", swiftSettings: houseRules),
        .target(
            name: "TestSeeds", dependencies: ["CloudMountPlatform"], path: "Tests/TestSeeds", swiftSettings: houseRules),
        // What a small request costs beside a bare libcurl loop: `make bench-requests`.
        .target(name: "BareRequests", dependencies: ["CCurl"], path: "Tests/BareRequests"),
        .executableTarget(
            name: "request-bench",
            dependencies: ["BareRequests", "S3Provider", "CloudMountHTTP", "CloudMountLayers", "CloudMountVFS"],
            path: "Tests/RequestBench", swiftSettings: houseRules),
        tests("B2ServerTests", ["TestServers"]),

        // The cases that every provider must pass. Imports Testing, so it is built for tests only.
        .target(
            name: "ProviderConformance", dependencies: ["CloudMountLayers", "CloudMountVFS"],
            path: "Tests/ProviderConformance",
            swiftSettings: houseRules),
        tests("MemoryProviderTests", ["MemoryProvider", "ProviderConformance", "CloudMountLayers", "CloudMountVFS"]),
        tests(
            "DirectoryProviderTests",
            [
                "DirectoryProvider", "ProviderConformance", "CloudMountVFS", "CloudMountPlatform", "TestServers",
                "TestSeeds",
            ]),
        tests(
            "S3ConformanceTests",
            ["S3Provider", "CloudMountLayers", "ProviderConformance", "CloudMountVFS", "TestServers"]),
        tests(
            "B2ConformanceTests",
            ["B2Provider", "CloudMountLayers", "ProviderConformance", "CloudMountVFS", "TestServers"]),
        tests(
            "WebDAVProviderTests",
            [
                "WebDAVProvider", "CloudMountLayers", "CloudMountKit", "CloudMountHTTP", "CloudMountVFS", "TestServers",
                "TestSeeds",
            ]),
        tests(
            "WebDAVConformanceTests",
            ["WebDAVProvider", "CloudMountLayers", "ProviderConformance", "CloudMountVFS", "TestServers"]),
        tests(
            "CloudMountKitTests",
            ["CloudMountKit", "CloudMountHTTP", "CloudMountVFS", "TestServers", "TestSeeds"]),
        tests("CloudMountLayersTests", ["CloudMountLayers", "MemoryProvider", "CloudMountVFS", log]),
        tests("ArchitectureTests", []),

        // A mount over a bucket in memory, with an exact account of what it does to it. For tests and for `make tsan`.
        .target(
            name: "MountHarness",
            dependencies: [
                "CloudMountFilesystem", "CloudMountCache", "CloudMountStaging", "CloudMountLayers",
                "CloudMountPlatform", "CloudMountVFS", "MemoryProvider", "TestSeeds",
            ], path: "Tests/MountHarness", swiftSettings: houseRules),
        .testTarget(
            name: "ConsistencyTests",
            dependencies: [
                "MountHarness", "CloudMountFilesystem", "CloudMountCache", "CloudMountLayers", "CloudMountPlatform",
                "CloudMountVFS", "MemoryProvider", "TestSeeds",
            ], path: "Tests/ConsistencyTests", exclude: ["README.md"], swiftSettings: houseRules),
        .target(name: "TrialMutex", path: "Tests/TrialMutex"),
        .executableTarget(
            name: "thread-trial",
            dependencies: [
                "MountHarness", "TrialMutex", "CloudMountFilesystem", "CloudMountPlatform", "CloudMountVFS",
            ],
            path: "Tests/ThreadTrial", swiftSettings: houseRules),
        tests("MountTests", ["TestServers", "TestSeeds", "CloudMountConfig"]),
        // What saving and taking up names costs: `swift run -c release names-bench DIRECTORY`, twice.
        .executableTarget(
            name: "names-bench",
            dependencies: [
                "MountHarness", "CloudMountFilesystem", "CloudMountCache", "CloudMountStaging", "CloudMountLayers",
                "CloudMountPlatform", "CloudMountVFS", "MemoryProvider",
            ], path: "Tests/NamesBench", swiftSettings: houseRules),
        // What a commit to the journal costs, and a victim for its tests: `swift run -c release journal-trial bench DIRECTORY`.
        .executableTarget(
            name: "journal-trial", dependencies: ["CloudMountCache", "CloudMountVFS"], path: "Tests/JournalTrial",
            swiftSettings: houseRules),
        tests(
            "CloudMountCacheTests",
            [
                "CloudMountCache", "CloudMountStaging", "CloudMountPlatform", "CloudMountVFS", "TestServers",
                "TestSeeds",
                "journal-trial",
            ]),
        tests("CloudMountPlatformTests", ["CloudMountPlatform"]),
        tests("CloudMountStagingTests", ["CloudMountStaging", "CloudMountPlatform", "CloudMountVFS", "TestSeeds"]),
        tests(
            "CloudMountCommitTests",
            [
                "CloudMountCommit", "CloudMountStaging", "CloudMountPlatform", "CloudMountVFS", "CloudMountLayers",
                "MemoryProvider",
            ]),
        tests("UploadPlanTests", ["CloudMountCommit", "CloudMountStaging", "CloudMountVFS", "TestSeeds"]),
        tests("AttributeCodecTests", ["CloudMountCommit", "CloudMountVFS", "TestSeeds"]),
        tests("CloudMountHTTPTests", ["CloudMountHTTP", "CloudMountVFS", "CloudMountPlatform", "TestSeeds"]),
        tests(
            "CloudMountFilesystemTests",
            [
                "MountHarness", "CloudMountCache", "CloudMountFilesystem", "CloudMountCommit", "CloudMountStaging",
                "CloudMountLayers", "CloudMountPlatform", "CloudMountVFS", "MemoryProvider", "TestSeeds",
            ]),
    ]
)
