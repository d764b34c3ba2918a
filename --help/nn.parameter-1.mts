import { ones, Module, parameter } from 'longspan';
class Scale extends Module {
  gain = parameter(ones([8]));
}


export {};
