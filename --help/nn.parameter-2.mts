import { zeros, Module, buffer } from 'longspan';
class Centred extends Module {
  mean = buffer(zeros([8]));
}
new Centred().stateDict(); // { mean }


export {};
