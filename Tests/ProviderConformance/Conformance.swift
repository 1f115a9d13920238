import CloudMountLayers
public import CloudMountVFS
import Synchronization
public import Testing

/// What a case needs of a store, by its capabilities.
struct Need: Sendable {
    /// For a person: why the case is left out without it.
    let reason: String
    let isMet: @Sendable (Capabilities) -> Bool

    init(_ reason: String, _ isMet: @escaping @Sendable (Capabilities) -> Bool) {
        self.reason = reason
        self.isMet = isMet
    }

    /// Of cases about what happens where a feature is missing.
    static func without(_ need: Need) -> Need { Need("only where not: \(need.reason)") { !need.isMet($0) } }

    static let multipart = Need("no multipart: no uploads in parts") { $0.multipart }
    static let singlePart = Need("minParts: an upload of one part is too short") { $0.minParts == 1 }
    static let equalParts = Need("equalParts: parts may differ in size") { $0.equalParts }
    static let serverCopy = Need("no serverCopy: the store copies nothing") { $0.serverCopy }
    static let moves = Need("no moves: an object gets another name by a copy") { $0.moves }
    static let movesFolders = Need("no movesFolders: what is in a folder is copied one by one") { $0.movesFolders }
    static let rangeCopy = Need("no rangeCopy: the store makes no parts of ranges") { $0.rangeCopy }
    static let conditionalCreate = Need("no conditionalCreate: of racing creators several may win") {
        $0.conditionalCreate
    }
    static let pinnedRead = Need("no pinnedRead: reads are of whatever is current") { $0.pinnedRead }
    static let readsOldVersions = Need("no readsOldVersions: what was replaced is gone") { $0.readsOldVersions }
    static let versions = Need("no versions: old ones are not listed") { $0.versions }
    static let metadata = Need("no metadata: the store keeps none") { $0.metadata }
    static let completeSetsMetadata = Need("no completeSetsMetadata: metadata are those of the upload's beginning") {
        $0.completeSetsMetadata
    }
    static let listingCarriesMetadata = Need("no listingCarriesMetadata: only a look tells them") {
        $0.listingCarriesMetadata
    }
    static let sortedListing = Need("no sortedListing: keys come in any order") { $0.sortedListing }
    static let folderObjects = Need("no folderObjects: folders keep no metadata") { $0.folderObjects }
    static let emptyFolders = Need("no emptyFolders: the store takes no key that ends in a slash") { $0.emptyFolders }
    static let controlCharacters = Need("no controlCharacters: keys hold none") { $0.controlCharacters }
    static let filesBesideFolders = Need("no filesBesideFolders: a name is a file or a folder") {
        $0.filesBesideFolders
    }
    static let oddSegments = Need("no oddSegments: segments of keys are names of files") { $0.oddSegments }
    static let longSegments = Need("no oddSegments, or maxNameBytes below 255: no segment is so long") {
        $0.oddSegments && $0.maxNameBytes >= 255
    }
    static let realFolders = Need("no realFolders: folders come and go with what is in them") { $0.realFolders }
    static let lacks = Need("the store lacks neither multipart nor serverCopy nor versions") {
        !$0.multipart || !$0.serverCopy || !$0.versions
    }
}

/// One thing that every provider must get right, under a name that `KnownDeviation` can use.
public struct ConformanceCase: Sendable, CustomTestStringConvertible {
    public let name: String
    let needs: [Need]
    let body: @Sendable (Bench) async throws -> Void

    init(_ name: String, needs: [Need], _ body: @escaping @Sendable (Bench) async throws -> Void) {
        self.name = name
        self.needs = needs
        self.body = body
    }

    init(_ name: String, needs: Need..., body: @escaping @Sendable (Bench) async throws -> Void) {
        self.init(name, needs: needs, body)
    }

    public var testDescription: String { name }
}

/// A case that a subject does not run.
public struct LeftOutCase: Sendable, CustomStringConvertible {
    public let name: String
    /// The capability that it needs, and what is so without it.
    public let reason: String

    public var description: String { "\(name) (\(reason))" }
}

/// A case that the store behind a provider gets wrong, and why. The case is run all the same: it is reported as a known
/// issue, and fails once the store gets it right, so that these data stay true.
public struct KnownDeviation: Sendable {
    public let name: String
    public let reason: String
    /// A race in the store, which it sometimes wins: then passing is no failure.
    public let isIntermittent: Bool

    public init(_ name: String, _ reason: String, isIntermittent: Bool = false) {
        self.name = name
        self.reason = reason
        self.isIntermittent = isIntermittent
    }
}

/// A provider under test, with the store behind it.
public final class Subject: Sendable {
    private let started: Once<any ObjectProvider>
    private let deviations: [KnownDeviation]
    let missingBucket: (@Sendable () async throws -> any ObjectProvider)?
    let wrongCredentials: (@Sendable () async throws -> any ObjectProvider)?
    private let remove: (@Sendable () async throws -> Void)?
    private let hasRun = Mutex<Set<String>>([])
    private let place: String
    private let isShared: Bool

    /// - Parameters:
    ///   - deviations: what the store is known to get wrong.
    ///   - missingBucket: the same provider on a bucket that does not exist; nil when every bucket exists.
    ///   - wrongCredentials: the same provider with a key that the store refuses; nil when it asks for none.
    ///   - retries: puts the retry layer around the provider, as a mount has it: for stores that now and then answer 503.
    ///   - isShared: the bucket is not for these tests alone. All keys then begin with a name of this run, and each case
    ///     takes away what it has made.
    ///   - remove: takes the bucket away that `start` has made, with what is in it. Called when all cases have run.
    ///   - start: makes the provider, on an empty bucket unless it is shared: one that it makes itself, where it can. Called once, `prepare`
    ///     follows.
    public init(
        deviations: [KnownDeviation] = [], retries: Bool = false, isShared: Bool = false,
        missingBucket: (@Sendable () async throws -> any ObjectProvider)? = nil,
        wrongCredentials: (@Sendable () async throws -> any ObjectProvider)? = nil,
        remove: (@Sendable () async throws -> Void)? = nil,
        start: @escaping @Sendable () async throws -> any ObjectProvider
    ) {
        self.deviations = deviations
        self.missingBucket = missingBucket
        self.wrongCredentials = wrongCredentials
        self.isShared = isShared
        self.remove = remove
        place = isShared ? "conformance-\(ObjectMetadata.newNonce().prefix(12))/" : ""
        started = Once {
            let bare = try await start()
            let provider: any ObjectProvider = retries ? RetryLayer(bare) : bare
            try await provider.prepare(writable: true)
            return provider
        }
    }

    /// The cases that the provider's capabilities claim. Those that are left out are printed, with the reasons.
    public func cases() async throws -> [ConformanceCase] {
        let left = try await leftOut()
        for deviation in deviations {
            if !Conformance.cases.contains(where: { $0.name == deviation.name }) {
                Issue.record("there is no case “\(deviation.name)” to deviate from")
            }
            if let out = left.first(where: { $0.name == deviation.name }) {
                Issue.record("“\(deviation.name)” is no deviation: it is left out, \(out.reason)")
            }
        }
        let names = Set(left.map(\.name))
        let cases = Conformance.cases.filter { !names.contains($0.name) }
        if !left.isEmpty {
            let lines = left.map { "  \($0)\n" }.joined()
            print(
                "Conformance: \(cases.count) of \(Conformance.cases.count) cases apply; left out are\n\(lines)",
                terminator: "")
        }
        return cases
    }

    /// The cases that do not apply, and why.
    public func leftOut() async throws -> [LeftOutCase] {
        let capabilities = try await started.value().capabilities
        return Conformance.cases.compactMap { test in
            let reason: String? =
                switch test.name {
                case Conformance.missingBucket where missingBucket == nil: "no missingBucket is given"
                case Conformance.wrongCredentials where wrongCredentials == nil: "no wrongCredentials are given"
                default: test.needs.first { !$0.isMet(capabilities) }?.reason
                }
            return reason.map { LeftOutCase(name: test.name, reason: $0) }
        }
    }

    public func run(_ test: ConformanceCase) async throws {
        let provider = try await started.value()
        let bench = Bench(provider, self, prefix: "\(place)c\(Conformance.number(of: test))/")
        let result: Result<Void, any Error>
        do { result = .success(try await run(test, on: bench)) } catch { result = .failure(error) }
        if isShared { try await bench.empty(place) }
        try await removeAfterLast(test)
        try result.get()
    }

    private func removeAfterLast(_ test: ConformanceCase) async throws {
        guard let remove else { return }
        let left = Set(try await leftOut().map(\.name))
        let isLast = hasRun.withLock { hasRun in
            guard hasRun.insert(test.name).inserted else { return false }
            return hasRun.count + left.count == Conformance.cases.count
        }
        if isLast { try await remove() }
    }

    private func run(_ test: ConformanceCase, on bench: Bench) async throws {
        guard let deviation = deviations.first(where: { $0.name == test.name }) else {
            return try await test.body(bench)
        }
        await withKnownIssue(Comment(rawValue: deviation.reason), isIntermittent: deviation.isIntermittent) {
            try await test.body(bench)
        }
    }
}

/// The list. Its order and names are part of the kit's interface.
public enum Conformance {
    public static let cases: [ConformanceCase] =
        keyCases + objectCases + rangeCases + listingCases + metadataCases + preconditionCases + copyCases + uploadCases
        + deleteCases + streamingCases + errorCases + folderCases + moveCases

    static func number(of test: ConformanceCase) -> Int { (cases.firstIndex { $0.name == test.name } ?? 0) + 1 }
}

/// A value made once, by whoever asks first.
private actor Once<Value: Sendable> {
    private let make: @Sendable () async throws -> Value
    private var task: Task<Value, any Error>?

    init(_ make: @escaping @Sendable () async throws -> Value) { self.make = make }

    func value() async throws -> Value {
        let task = task ?? Task { try await make() }
        self.task = task
        return try await task.value
    }
}
