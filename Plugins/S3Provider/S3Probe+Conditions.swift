import CloudMountKit
import CloudMountVFS

/// Conditions of copies and deletes. Each is believed when the endpoint refuses one that does not hold and obeys one
/// that does: some hold a copy's against its source.
extension S3Probe {
    /// The names of the objects that this takes.
    struct Conditions: Sendable {
        let first: ObjectKey
        let second: ObjectKey
        let third: ObjectKey
        /// Where there is nothing.
        let free: ObjectKey

        init(_ name: String) {
            first = ObjectKey(name + "-1")
            second = ObjectKey(name + "-2")
            third = ObjectKey(name + "-3")
            free = ObjectKey(name + "-4")
        }

        var keys: [ObjectKey] { [first, second, third, free] }
    }

    /// The objects that copies and deletes meet; nil: not taken.
    struct Targets: Sendable {
        var first: ObjectInfo?
        var second: ObjectInfo?
        var third: ObjectInfo?
    }

    private static let otherContent = BytesSource("fedcba9876543210")

    func targets() async -> Targets {
        let profile = bucket.client.profile
        guard [profile.conditionalCopy, profile.conditionalDelete].contains(.probe) else { return Targets() }
        async let first = put(conditions.first)
        async let second = put(conditions.second)
        async let third = put(conditions.third)
        return await Targets(first: first, second: second, third: third)
    }

    private func put(_ key: ObjectKey) async -> ObjectInfo? {
        try? await bucket.writer.put(key, ObjectMetadata(), nil, from: Self.otherContent)
    }

    private static func ifMatch(_ etag: String) -> S3Signer.Field { S3Signer.Field(name: "if-match", value: etag) }
    private static let ifAbsent = S3Signer.Field(name: "if-none-match", value: "*")

    func copiesConditionally(
        _ source: ObjectInfo, _ targets: Targets
    ) async -> Result<(absent: Bool, match: Bool, targets: Targets), VFSError> {
        guard bucket.client.profile.conditionalCopy == .probe, let first = targets.first, let second = targets.second,
            let third = targets.third
        else { return .success((false, false, targets)) }
        async let taken = copy(source, first.key, Self.ifAbsent)
        async let free = copy(source, conditions.free, Self.ifAbsent)
        async let wrong = copy(source, third.key, Self.ifMatch(Self.wrongTag))
        async let right = copy(source, second.key, Self.ifMatch(second.etag.quoted))
        do throws(VFSError) {
            let answers = try await (taken.get(), free.get(), wrong.get(), right.get())
            var left = targets
            if case .done(let info) = answers.3 { left.second = info }
            return .success(
                (answers.0.isRefused && answers.1.isDone, answers.2.isRefused && answers.3.isDone, left))
        } catch {
            return .failure(error)
        }
    }

    private enum Answer: Sendable {
        case done(ObjectInfo), refused, other

        var isDone: Bool { if case .done = self { true } else { false } }
        var isRefused: Bool { if case .refused = self { true } else { false } }
    }

    private func copy(
        _ source: ObjectInfo, _ key: ObjectKey, _ condition: S3Signer.Field
    ) async -> Result<Answer, VFSError> {
        let request = CopyRequest(source: source, destination: key)
        switch await attempt({ () async throws(VFSError) in
            try await bucket.copier.copy(request, condition, pinned: false)
        })
        {
        case .success(let info): return .success(.done(info))
        case .failure(let error):
            return unanswered(error) ? .failure(error) : .success(error.code == .preconditionFailed ? .refused : .other)
        }
    }

    /// - Parameter other: an object that is of no use any more.
    func deletesConditionally(
        _ other: ObjectInfo, _ targets: Targets
    ) async -> Result<(one: Bool, many: Bool), VFSError> {
        guard bucket.client.profile.conditionalDelete == .probe, let first = targets.first,
            let second = targets.second, let third = targets.third
        else { return .success((false, false)) }
        let wrong = ETag(String(Self.wrongTag.dropFirst().dropLast()))
        async let refused = attempt { () async throws(VFSError) in
            try await bucket.deleter.delete(DeleteRequest(first.key, version: wrong), conditionally: true)
        }
        async let obeyed = attempt { () async throws(VFSError) in
            try await bucket.deleter.delete(DeleteRequest(second.key, version: second.etag), conditionally: true)
        }
        async let together = attempt { () async throws(VFSError) -> [DeleteFailure] in
            guard bucket.client.profile.maxDeleteKeys > 1 else { return [] }
            return try await bucket.deleter.delete(
                together: [
                    DeleteRequest(third.key, version: wrong), DeleteRequest(other.key, version: other.etag),
                ], conditionally: true)
        }
        let answers = await (refused, obeyed, together)
        for error in [answers.0.failed, answers.1.failed, answers.2.failed].compactMap({ $0 }) where unanswered(error) {
            return .failure(error)
        }
        let failures = (try? answers.2.get()) ?? []
        let one = answers.0.failed?.code == .preconditionFailed && answers.1.failed == nil
        let many = failures.map(\.key) == [third.key] && failures.first?.error.code == .preconditionFailed
        return .success((one, many))
    }
}

extension Result where Failure == VFSError {
    fileprivate var failed: VFSError? { if case .failure(let error) = self { error } else { nil } }
}
