public import CloudMountVFS
public import Logging

/// What all mounts of one endpoint share: how many calls it takes at a time, and how many retries it is worth.
public final class EndpointLoad: Sendable {
    /// For the log and `status`, such as `s3.eu-west-1.amazonaws.com:443`.
    public let name: String
    public let limit: ConcurrencyLimit
    public let budget = RetryBudget()

    public init(_ name: String, maxConcurrency: Int = 96) {
        self.name = name
        limit = ConcurrencyLimit(maximum: maxConcurrency)
    }
}

/// How the layers of one mount are set.
public struct LayerSettings: Sendable {
    /// Where the mount begins in the bucket: empty, or ending in `/`.
    public var prefix: ObjectKey
    public var retry: RetryPolicy
    /// Give mounts of one endpoint the same one.
    public var endpoint: EndpointLoad
    /// Failures go here; give it the mount's name as metadata.
    public var logger: Logger
    /// For tests.
    public var faults: Faults?
    public var environment: RetryEnvironment

    public init(
        prefix: ObjectKey = "", retry: RetryPolicy = RetryPolicy(), endpoint: EndpointLoad,
        logger: Logger = Logger(label: "cloudmount.store"), faults: Faults? = nil,
        environment: RetryEnvironment = .system
    ) {
        self.prefix = prefix
        self.retry = retry
        self.endpoint = endpoint
        self.logger = logger
        self.faults = faults
        self.environment = environment
    }

    /// The deadline of a mount's cache policy, with the usual retries.
    public static func retryPolicy(_ policy: CachePolicy) -> RetryPolicy {
        var retry = RetryPolicy()
        retry.deadline = policy.deadline
        return retry
    }
}

/// Stacks the layers in their one right order.
public enum Layers {
    /// From the outside in: prefix; retry (with the failure log), which holds no slot while it pauses; limit; measurement,
    /// so that times are the store's and not the queue's; faults; whichever provider is current.
    public static func stack(_ provider: any ObjectProvider, settings: LayerSettings) -> LayeredProvider {
        let measurements = Measurements()
        let log = FailureLog(settings.logger, endpoint: settings.endpoint.name)
        let current = CurrentProvider(provider)
        let retry = LiveRetryPolicy(settings.retry)
        var stack: any ObjectProvider = CurrentLayer(current)
        if let faults = settings.faults { stack = FaultLayer(stack, faults) }
        stack = MeasureLayer(stack, into: measurements)
        stack = LimitLayer(stack, limit: settings.endpoint.limit)
        stack = RetryLayer(
            stack, policy: retry, budget: settings.endpoint.budget, environment: settings.environment,
            observe: log.record)
        if !settings.prefix.isEmpty { stack = PrefixLayer(stack, prefix: settings.prefix) }
        return LayeredProvider(
            provider: stack, measurements: measurements, endpoint: settings.endpoint, current: current, retry: retry)
    }
}

/// A provider with its layers around it.
public struct LayeredProvider: Sendable {
    /// What a mount works with.
    public let provider: any ObjectProvider
    public let measurements: Measurements
    public let endpoint: EndpointLoad
    /// The provider at the bottom, to be replaced when credentials are.
    public let current: CurrentProvider
    /// To be replaced when the mount's policy is.
    public let retry: LiveRetryPolicy
}
