// Calls whose errors are values, one by one and side by side.

/// A call whose error is a value, for those that run side by side.
public func attempt<Value>(_ work: () async throws(VFSError) -> Value) async -> Result<Value, VFSError> {
    do throws(VFSError) { return .success(try await work()) } catch { return .failure(error) }
}

/// A call whose error is a value.
package func attemptNow<Value>(_ work: () throws(VFSError) -> Value) -> Result<Value, VFSError> {
    do throws(VFSError) { return .success(try work()) } catch { return .failure(error) }
}

/// Runs `body` for every item, `width` at a time; results in the order of the items. The first error ends it.
public func inParallel<Item: Sendable, Value: Sendable>(
    _ items: [Item], width: Int, _ body: @escaping @Sendable (Item) async throws(VFSError) -> Value
) async throws(VFSError) -> [Value] {
    if items.isEmpty { return [] }
    if items.count == 1 { return [try await body(items[0])] }
    let result: Result<[Value], VFSError> = await withTaskGroup(of: (Int, Result<Value, VFSError>).self) { group in
        var values: [Value?] = Array(repeating: nil, count: items.count)
        var next = 0
        func start() {
            let index = next
            let item = items[index]
            next += 1
            group.addTask {
                do throws(VFSError) { return (index, .success(try await body(item))) } catch {
                    return (index, .failure(error))
                }
            }
        }
        while next < min(width, items.count) { start() }
        for await (index, result) in group {
            switch result {
            case .success(let value): values[index] = value
            case .failure(let error):
                group.cancelAll()
                return .failure(error)
            }
            if next < items.count { start() }
        }
        return .success(values.compactMap { $0 })
    }
    return try result.get()
}

/// As `inParallel`, but what has begun is brought to its end: after the first error nothing more is begun.
/// - Returns: in the order of the items; nil for those that were not begun.
package func inParallelToEnd<Item: Sendable, Value: Sendable>(
    _ items: [Item], width: Int, _ body: @escaping @Sendable (Item) async throws(VFSError) -> Value
) async -> [Result<Value, VFSError>?] {
    await withTaskGroup(of: (Int, Result<Value, VFSError>).self) { group in
        var results: [Result<Value, VFSError>?] = Array(repeating: nil, count: items.count)
        var next = 0
        var goesOn = true
        func start() {
            let index = next
            let item = items[index]
            next += 1
            group.addTask { (index, await attempt { () async throws(VFSError) in try await body(item) }) }
        }
        while next < min(width, items.count) { start() }
        for await (index, result) in group {
            if case .failure = result { goesOn = false }
            results[index] = result
            if goesOn, next < items.count { start() }
        }
        return results
    }
}
