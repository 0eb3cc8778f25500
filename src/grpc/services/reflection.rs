//! Server reflection: what can be called here, for clients that have no `.proto` files.

use std::collections::{HashMap, HashSet};

use grpcio::{RpcStatusCode, ServiceBuilder};
use protobuf::Message;
use protobuf::descriptor::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto};
use protobuf::reflect::FileDescriptor;

use crate::grpc::proto;
use crate::grpc::proto::reflection_v1::server_reflection_request::Message_request as Question;
use crate::grpc::proto::reflection_v1::server_reflection_response::Message_response as Answer;
use crate::grpc::proto::reflection_v1::{
    ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse,
    ServerReflectionRequest, ServerReflectionResponse, ServiceResponse,
};
use crate::grpc::services::interceptor::Interceptor;
use crate::grpc::stream::call::{Call, Request};
use crate::grpc::stream::{Class, Kind};
use crate::sync::Arc;

/// The files behind the services of one server.
#[derive(Default)]
pub(crate) struct Catalog {
    /// By name: the serialised file, and the names of those that it imports.
    files: HashMap<String, (Vec<u8>, Vec<String>)>,
    /// By fully qualified name: the file that declares it.
    symbols: HashMap<String, String>,
    messages: HashSet<String>,
    services: Vec<String>,
}

pub(crate) fn add(
    services: ServiceBuilder,
    interceptor: &Interceptor,
    files: &[&FileDescriptor],
) -> ServiceBuilder {
    let catalog = Arc::new(Catalog::of(files));
    let for_v1 = Arc::clone(&catalog);
    let services = interceptor.add(
        services,
        &proto::REFLECTION_V1,
        Class::Stream,
        move |call| converse(call, Arc::clone(&for_v1)),
    );
    interceptor.add(
        services,
        &proto::REFLECTION_V1ALPHA,
        Class::Stream,
        move |call| converse(call, Arc::clone(&catalog)),
    )
}

async fn converse(
    mut call: Call<ServerReflectionRequest, ServerReflectionResponse>,
    catalog: Arc<Catalog>,
) {
    // One answer is sent before the next question is read: nothing is buffered.
    loop {
        match call.request().await {
            Ok(Request::Message(question)) => {
                // A client that does not read the answer in time is late as well.
                call.wait_for(Kind::Request(call.streams().request_deadline()));
                if call.send(catalog.answer(question)).await.is_err() {
                    return;
                }
            }
            Ok(Request::Late) => {
                let text = "no question in time";
                return call.fail(RpcStatusCode::DEADLINE_EXCEEDED, text).await;
            }
            Ok(Request::End | Request::Closing) => return call.finish().await,
            Err(_) => return,
        }
    }
}

impl Catalog {
    /// The services of these files; their imports are known too.
    fn of(files: &[&FileDescriptor]) -> Catalog {
        let mut catalog = Catalog::default();
        for file in files {
            let package = file.proto().package();
            let services = file.proto().service.iter();
            let names = services.map(|service| join(package, service.name()));
            catalog.services.extend(names);
            catalog.add_file(file);
        }
        catalog.services.sort();
        catalog
    }

    fn add_file(&mut self, file: &FileDescriptor) {
        let proto = file.proto();
        if self.files.contains_key(proto.name()) {
            return;
        }
        let bytes = proto.write_to_bytes().unwrap_or_default();
        let imports = proto.dependency.clone();
        self.files.insert(proto.name().to_owned(), (bytes, imports));
        self.add_symbols(proto);
        for import in file.deps() {
            self.add_file(import);
        }
    }

    fn add_symbols(&mut self, file: &FileDescriptorProto) {
        let package = file.package();
        for message in &file.message_type {
            self.add_message(file, package, message);
        }
        for declared in &file.enum_type {
            self.add_enum(file, package, declared);
        }
        for service in &file.service {
            let name = join(package, service.name());
            for method in &service.method {
                self.add_symbol(file, join(&name, method.name()));
            }
            self.add_symbol(file, name);
        }
    }

    fn add_message(&mut self, file: &FileDescriptorProto, scope: &str, message: &DescriptorProto) {
        let name = join(scope, message.name());
        for field in &message.field {
            self.add_symbol(file, join(&name, field.name()));
        }
        for oneof in &message.oneof_decl {
            self.add_symbol(file, join(&name, oneof.name()));
        }
        for nested in &message.nested_type {
            self.add_message(file, &name, nested);
        }
        for declared in &message.enum_type {
            self.add_enum(file, &name, declared);
        }
        self.messages.insert(name.clone());
        self.add_symbol(file, name);
    }

    /// The values of an enum live in the scope around it.
    fn add_enum(
        &mut self,
        file: &FileDescriptorProto,
        scope: &str,
        declared: &EnumDescriptorProto,
    ) {
        for value in &declared.value {
            self.add_symbol(file, join(scope, value.name()));
        }
        self.add_symbol(file, join(scope, declared.name()));
    }

    fn add_symbol(&mut self, file: &FileDescriptorProto, name: String) {
        self.symbols.insert(name, file.name().to_owned());
    }

    fn answer(&self, question: ServerReflectionRequest) -> ServerReflectionResponse {
        let answer = match &question.message_request {
            Some(Question::FileByFilename(name)) => self.file(name),
            Some(Question::FileContainingSymbol(name)) => {
                let symbol = name.strip_prefix('.').unwrap_or(name);
                match self.symbols.get(symbol) {
                    Some(file) => self.file(file),
                    None => error(RpcStatusCode::NOT_FOUND, "unknown symbol"),
                }
            }
            // No message here has extensions.
            Some(Question::FileContainingExtension(_)) => {
                error(RpcStatusCode::NOT_FOUND, "unknown extension")
            }
            Some(Question::AllExtensionNumbersOfType(name)) => self.extensions(name),
            Some(Question::ListServices(_)) => self.list(),
            None => error(RpcStatusCode::INVALID_ARGUMENT, "no question"),
        };
        ServerReflectionResponse {
            valid_host: question.host.clone(),
            original_request: Some(question).into(),
            message_response: Some(answer),
            ..Default::default()
        }
    }

    /// A file and everything that it imports, directly or not; the file itself is first.
    fn file(&self, name: &str) -> Answer {
        let mut names = vec![name.to_owned()];
        let mut files = Vec::new();
        let mut at = 0;
        while let Some(name) = names.get(at) {
            let Some((bytes, imports)) = self.files.get(name) else {
                return error(RpcStatusCode::NOT_FOUND, "unknown file");
            };
            files.push(bytes.clone());
            for import in imports {
                if !names.contains(import) {
                    names.push(import.clone());
                }
            }
            at += 1;
        }
        Answer::FileDescriptorResponse(FileDescriptorResponse {
            file_descriptor_proto: files,
            ..Default::default()
        })
    }

    fn extensions(&self, name: &str) -> Answer {
        let message = name.strip_prefix('.').unwrap_or(name);
        if !self.messages.contains(message) {
            return error(RpcStatusCode::NOT_FOUND, "unknown message");
        }
        Answer::AllExtensionNumbersResponse(ExtensionNumberResponse {
            base_type_name: message.to_owned(),
            ..Default::default()
        })
    }

    fn list(&self) -> Answer {
        let services = self.services.iter().map(|name| ServiceResponse {
            name: name.clone(),
            ..Default::default()
        });
        Answer::ListServicesResponse(ListServiceResponse {
            service: services.collect(),
            ..Default::default()
        })
    }
}

fn join(scope: &str, name: &str) -> String {
    if scope.is_empty() {
        name.to_owned()
    } else {
        format!("{scope}.{name}")
    }
}

fn error(code: RpcStatusCode, text: &str) -> Answer {
    Answer::ErrorResponse(ErrorResponse {
        error_code: code.into(),
        error_message: text.to_owned(),
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(question: Question) -> Answer {
        let files = [
            proto::health::file_descriptor(),
            proto::orca::file_descriptor(),
            proto::solpipe::file_descriptor(),
        ];
        let request = ServerReflectionRequest {
            message_request: Some(question),
            ..Default::default()
        };
        let answer = Catalog::of(&files).answer(request);
        answer.message_response.expect("an answer")
    }

    #[test]
    fn every_kind_of_symbol_is_found() {
        for symbol in [
            "solpipe.WorkerStatus",
            "solpipe.WorkerStatus.OnStatus",
            ".solpipe.CapacityResponse",
            "solpipe.CapacityResponse.capacity",
            "grpc.health.v1.HealthCheckResponse.ServingStatus",
            "grpc.health.v1.HealthCheckResponse.SERVING",
            "google.protobuf.Duration",
        ] {
            let answer = ask(Question::FileContainingSymbol(symbol.to_owned()));
            assert!(
                matches!(answer, Answer::FileDescriptorResponse(_)),
                "{symbol}"
            );
        }
        for symbol in ["", "solpipe", "solpipe.worker"] {
            let answer = ask(Question::FileContainingSymbol(symbol.to_owned()));
            assert!(matches!(answer, Answer::ErrorResponse(_)), "{symbol}");
        }
    }

    #[test]
    fn a_file_comes_with_its_imports() {
        let name = "xds/service/orca/v3/orca.proto".to_owned();
        let Answer::FileDescriptorResponse(files) = ask(Question::FileByFilename(name)) else {
            panic!("no files");
        };
        let names: Vec<_> = files
            .file_descriptor_proto
            .iter()
            .map(|bytes| FileDescriptorProto::parse_from_bytes(bytes).unwrap())
            .map(|file| file.name().to_owned())
            .collect();
        assert_eq!(names[0], "xds/service/orca/v3/orca.proto");
        assert!(names.contains(&"xds/data/orca/v3/orca_load_report.proto".to_owned()));
        assert!(names.contains(&"google/protobuf/duration.proto".to_owned()));
    }
}
