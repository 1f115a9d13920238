public import CloudMountVFS
public import Testing

/// One thing that every provider must get right, under a name that `KnownDeviation` can use.
public struct ConformanceCase: Sendable, CustomTestStringConvertible {
    public let name: String
    /// Whether a provider with these capabilities claims it.
    let applies: @Sendable (Capabilities) -> Bool
    let body: @Sendable (Bench) async throws -> Void

    init(
        _ name: String, if applies: @escaping @Sendable (Capabilities) -> Bool = { _ in true },
        _ body: @escaping @Sendable (Bench) async throws -> Void
    ) {
        self.name = name
        self.applies = applies
        self.body = body
    }

    public var testDescription: String { name }
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

    /// - Parameters:
    ///   - deviations: what the store is known to get wrong.
    ///   - missingBucket: the same provider on a bucket that does not exist; nil when every bucket exists.
    ///   - wrongCredentials: the same provider with a key that the store refuses; nil when it asks for none.
    ///   - start: makes the provider on an empty bucket. Called once, `prepare` follows.
    public init(
        deviations: [KnownDeviation] = [], missingBucket: (@Sendable () async throws -> any ObjectProvider)? = nil,
        wrongCredentials: (@Sendable () async throws -> any ObjectProvider)? = nil,
        start: @escaping @Sendable () async throws -> any ObjectProvider
    ) {
        self.deviations = deviations
        self.missingBucket = missingBucket
        self.wrongCredentials = wrongCredentials
        started = Once {
            let provider = try await start()
            try await provider.prepare(writable: true)
            return provider
        }
    }

    /// The cases that the provider's capabilities claim.
    public func cases() async throws -> [ConformanceCase] {
        let provider = try await started.value()
        let all = Conformance.cases
        for deviation in deviations where !all.contains(where: { $0.name == deviation.name }) {
            Issue.record("there is no case “\(deviation.name)” to deviate from")
        }
        return all.filter { test in
            if test.name == Conformance.missingBucket { return missingBucket != nil }
            if test.name == Conformance.wrongCredentials { return wrongCredentials != nil }
            return test.applies(provider.capabilities)
        }
    }

    public func run(_ test: ConformanceCase) async throws {
        let provider = try await started.value()
        let bench = Bench(provider, self, prefix: "c\(Conformance.number(of: test))/")
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
        + deleteCases + streamingCases + errorCases

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
