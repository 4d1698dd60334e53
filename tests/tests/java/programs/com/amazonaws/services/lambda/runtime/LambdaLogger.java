package com.amazonaws.services.lambda.runtime;

/** As in aws-lambda-java-core. */
public interface LambdaLogger {
    void log(String message);

    void log(byte[] message);
}
