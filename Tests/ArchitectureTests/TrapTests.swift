import Testing

/// What would end the process, and with it every mount: each place that a search of the text can find is here with the reason why
/// nothing from outside reaches it. A new one fails the test until somebody has looked at it and written its reason down.
@Suite("What would end the process")
struct TrapTests {
    private struct Place {
        let file: String
        let kind: String
        let count: Int
        let reason: String

        init(_ file: String, _ kind: String, times count: Int = 1, _ reason: String) {
            (self.file, self.kind, self.count, self.reason) = (file, kind, count, reason)
        }
    }

    private static let places = [
        Place(
            "Sources/CloudMountPlatform/Poller.swift", "precondition(", "an index below the count that wait has told"),
        Place(
            "Sources/CloudMountPlatform/NamedThread.swift", "takeRetainedValue",
            "retained for the thread, which takes it once"
        ),
        Place(
            "Sources/CloudMountXML/XMLReader.swift", "takeUnretainedValue", "held with withExtendedLifetime meanwhile"),
        Place(
            "Sources/CloudMountFUSE/Callbacks+Connection.swift", "takeUnretainedValue",
            "the session is held by its threads"),
        Place("Sources/CloudMountFUSE/Request.swift", "takeUnretainedValue", "the session is held by its threads"),
        Place("Sources/CloudMountFUSE/Session.swift", "takeUnretainedValue", "the session is held by its threads"),
        Place("Sources/CloudMountHTTP/SocketTable.swift", "unsafelyUnwrapped", "given before libcurl may call"),
        Place("Sources/CloudMountHTTP/SocketTable.swift", "takeUnretainedValue", "outlives the multi handle"),
        Place("Sources/CloudMountHTTP/EasyHandle.swift", "unsafelyUnwrapped", "given before libcurl may call"),
        Place("Sources/CloudMountHTTP/EasyHandle.swift", "takeUnretainedValue", "outlives its own easy handle"),
        Place("Sources/CloudMountHTTP/TransferLoop.swift", "unsafelyUnwrapped", "given before libcurl may call"),
        Place("Sources/CloudMountHTTP/TransferLoop.swift", "takeUnretainedValue", "the thread holds it for ever"),
        Place("Sources/CloudMountDaemon/MountWork.swift", "uniqueKeysWithValues:", "over the cases of an enumeration"),
        // Numbers that a smaller or an unsigned type has no room for.
        Place("Sources/CloudMountPlatform/Poller.swift", "narrowing", "a capacity of our own"),
        Place("Sources/CloudMountPlatform/Semaphore.swift", "narrowing", "not below zero by max"),
        Place(
            "Sources/CloudMountPlatform/SystemClock.swift", "narrowing", times: 2, "CLOCK_MONOTONIC is never negative"),
        Place("Sources/CloudMountCommit/AttributeCodec+Xattrs.swift", "narrowing", "of a text, or nil"),
        Place("Sources/CloudMountXML/XMLReader.swift", "narrowing", "longer documents are refused before"),
        Place("Sources/CloudMountFilesystem/Tree/Node.swift", "narrowing", times: 5, "masked, or from a smaller type"),
        Place("Sources/CloudMountFilesystem/Tree/NodeTable.swift", "narrowing", "a count"),
        Place("Sources/CloudMountFilesystem/Tree/CompactTag.swift", "narrowing", times: 2, "a digit"),
        Place(
            "Sources/CloudMountFilesystem/Tree/Saved/PackedBytes.swift", "narrowing", times: 2, "from a byte; below 64"),
        Place(
            "Sources/CloudMountFilesystem/Tree/Saved/SavedEntry.swift", "narrowing", times: 7,
            "an index; from smaller types"),
        Place("Sources/CloudMountFilesystem/PosixACL.swift", "narrowing", times: 8, "from a smaller type, or masked"),
        Place(
            "Sources/CloudMountFilesystem/MountContext.swift", "narrowing", times: 2,
            "not below zero by the guard and by max"),
        Place(
            "Sources/CloudMountStaging/StagingArea.swift", "narrowing", times: 3, "unsigned already; seconds of our own"
        ),
        Place("Sources/CloudMountStaging/StagingDirectory.swift", "narrowing", "not below zero by max"),
        Place("Sources/CloudMountFUSE/Mounting.swift", "narrowing", times: 2, "flags of the system's headers"),
        Place("Sources/CloudMountFUSE/FUSEMount+Remount.swift", "narrowing", times: 2, "flags of the system's headers"),
        Place("Sources/CloudMountFUSE/DirectoryBuffer.swift", "narrowing", times: 2, "both have 64 bits"),
        Place("Sources/CloudMountFUSE/PendingSignals.swift", "narrowing", times: 2, "1 to 64"),
        Place(
            "Sources/CloudMountFUSE/Attributes.swift", "narrowing", times: 6,
            "not below zero by max, or of the same size"),
        Place(
            "Sources/CloudMountFUSE/Session+Statx.swift", "narrowing", times: 2,
            "not below zero by max, and below a second"),
        Place("Sources/CloudMountFUSE/Callbacks+Connection.swift", "narrowing", times: 2, "constants"),
        Place("Sources/CloudMountFUSE/Request.swift", "narrowing", times: 10, "our own counts, none below zero"),
        Place("Sources/CloudMountFUSE/Session.swift", "narrowing", times: 2, "sizes of our own structures"),
        Place(
            "Sources/CloudMountCache/Versions/VersionID.swift", "narrowing", times: 2,
            "from a byte; of the upper eight bits"),
        Place(
            "Sources/CloudMountCache/Versions/VersionMap.swift", "narrowing", times: 4,
            "sizes of versions, none below zero; from smaller types"),
        Place("Sources/CloudMountCache/Versions/VersionStore.swift", "narrowing", "seconds of our own"),
        Place("Sources/CloudMountPlatform/CRC32C.swift", "narrowing", times: 2, "from a byte; below 256"),
        Place("Sources/CloudMountHTTP/TransferLoop.swift", "narrowing", "not below zero by the condition before"),
        Place("Sources/CloudMountHTTP/TransferPulse.swift", "narrowing", times: 3, "not below zero by `milliseconds`"),
        Place("Sources/CloudMountKit/JSONReader.swift", "narrowing", "a digit"),
        Place("Sources/CloudMountKit/WireDate.swift", "narrowing", "a digit, or its negative"),
        Place("Plugins/MemoryProvider/MemoryBucket.swift", "narrowing", "from a smaller type"),
        Place("Plugins/DirectoryProvider/Folder.swift", "narrowing", "milliseconds of our own"),
        Place("Plugins/S3Provider/S3CredentialFiles.swift", "narrowing", "both have 64 bits"),
        Place(
            "Plugins/S3Provider/S3CredentialProcess.swift", "narrowing", times: 2,
            "not below zero by max, limited by min"),
    ]

    private static let words = [
        "try!", "as!", "fatalError(", "preconditionFailure(", "assertionFailure(", "unsafeBitCast(", "unsafeDowncast(",
        "unowned ", "unowned(", "uniqueKeysWithValues:", "unsafelyUnwrapped", "takeUnretainedValue",
        "takeRetainedValue",
    ]

    @Test("Every place is known, and has its reason")
    func places() throws {
        var found: [String: [Int]] = [:]
        for folder in ["Sources", "Plugins"] {
            for file in try SourceTree.files(below: folder) {
                for (number, text) in Self.withoutText(file) {
                    for kind in Self.kinds(text) { found["\(file.path): \(kind)", default: []].append(number) }
                }
            }
        }
        var known: [String: Int] = [:]
        for place in Self.places {
            #expect(!place.reason.isEmpty)
            known["\(place.file): \(place.kind)", default: 0] += place.count
        }
        let other = Set(found.keys).union(known.keys).filter { found[$0]?.count ?? 0 != known[$0] ?? 0 }.sorted()
        #expect(other.map { "\($0), lines \(found[$0] ?? []), known: \(known[$0] ?? 0)" } == [])
    }

    @Test(
        "The search finds what it is meant to find",
        arguments: [
            ("let a = b!", ["forced"]), ("a!.b(c!)", ["forced", "forced"]), ("var a: B!", ["forced"]),
            ("a[0]!", ["forced"]), ("if !a, a != b, a !== b {}", []), ("print(\"Ready!\")", []),
            ("precondition(a)", ["precondition("]), ("throw Errors.precondition(key)", []),
            ("static func precondition(", []),
            ("assert(a)", ["assert("]), ("unowned let a: B", ["unowned "]), ("UnownedJob(a)", []),
            ("UInt8(a + 1)", ["narrowing"]), ("UInt8(ascii: \"a\")", []), ("Int32(clamping: a)", []),
            ("Int16(POLLIN | POLLHUP)", []), ("UInt32(text, radix: 8)", []), ("try! a as! B", ["try!", "as!"]),
        ])
    func search(text: String, kinds: [String]) {
        let file = SourceTree.File(path: "", lines: [text])
        #expect(Self.withoutText(file).flatMap { Self.kinds($0.text) }.sorted() == kinds.sorted())
    }

    private static func kinds(_ text: String) -> [String] {
        var kinds = words.flatMap { word in text.ranges(of: word).map { _ in word } }
        for word in ["precondition(", "assert("] {
            // Names of our own are members, or being declared.
            kinds += text.ranges(of: word).map { text[..<$0.lowerBound] }
                .filter { !$0.hasSuffix(".") && !$0.hasSuffix("func ") && !($0.last?.isLetter ?? false) }.map { _ in
                    word
                }
        }
        if text.contains("!") {
            let rest = text.replacing("try!", with: "").replacing("as!", with: "")
            kinds += rest.matches(of: #/[\w)\]}>?]!(?!=)/#).map { _ in "forced" }
        }
        if text.contains("Int") {
            kinds += text.matches(of: conversion).filter { match in
                // With a label it is another initializer; a number of a text may be none.
                match.given.prefixMatch(of: #/\w+:/#) == nil && !match.given.contains("radix:")
                    && match.given.wholeMatch(of: constants) == nil && match.given.wholeMatch(of: texts) == nil
            }.map { _ in "narrowing" }
        }
        return kinds
    }

    private static var conversion: Regex<(Substring, given: Substring)> {
        #/\b(?:U?Int(?:8|16|32)|UInt|UInt64)\((?<given>[^()]*(?:\([^()]*\)[^()]*)*)/#
    }
    /// Of the system's headers.
    private static var constants: Regex<Substring> {
        #/[A-Z_][A-Z0-9_]*(?:\.rawValue)?(?: \| [A-Z_][A-Z0-9_]*(?:\.rawValue)?)*/#
    }
    private static var texts: Regex<Substring> { #/text|name|\$0\.dropFirst.*/# }

    /// The lines of code without what is quoted in them and what is remarked behind them.
    private static func withoutText(_ file: SourceTree.File) -> [(number: Int, text: String)] {
        var isQuoted = false
        return file.code.map { number, line in
            let marks = line.ranges(of: "\"\"\"").count
            if marks == 1 { isQuoted.toggle() }
            if marks > 0 || isQuoted { return (number, "") }
            let code = line.contains("\"") ? line.replacing(#/"(?:[^"\\]|\\.)*"/#, with: "") : line
            return (number, code.firstRange(of: " // ").map { String(code[..<$0.lowerBound]) } ?? code)
        }
    }
}
